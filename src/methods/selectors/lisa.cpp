// LISA: embeddings and head always train, of the layers between a few that are drawn anew every so many steps.
//
//   Paper   Pan et al. 2024 (LISA, arXiv:2403.17919), algorithm 1
//   Trains  what is no layer's, and `layers` layers drawn without replacement by (seed, number of the period)
//   State   that of the layers that train; it begins anew with every period, as AdamW does in algorithm 1
//   Choice  the authors' callback in LMFlow draws alike (numpy's choice without replacement) but turns gradients off
//           only, so that moments of resting layers stay where they were and memory grows with every layer that was
//           drawn; the paper's memory counts active layers alone, as here
#include "core/draws.h"
#include "methods/selector.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("layers", 2, 1, 1'000'000, "that train at a time"),
                               whole_number("period", 20, 1, 1'000'000'000, "steps until others are drawn")};

Result<std::vector<Trains>> select(const SelectorInput& input) {
  const int64_t wanted = TRY(layers_within(input, "lisa"));
  std::vector<bool> drawn(static_cast<size_t>(input.layers));
  const auto first = static_cast<uint64_t>(input.draw * input.layers);
  for (const int64_t layer : draw_places(Random(input.seed, "lisa"), input.layers, wanted, first))
    drawn[static_cast<size_t>(layer)] = true;
  return train_in_turn(input, drawn);
}

}  // namespace

const Selector kLisa = {.name = "lisa",
                        .summary = "embeddings, head and a few layers that are drawn anew every so many steps",
                        .paper = "Pan et al. 2024 (arXiv:2403.17919)",
                        .options = kOptions,
                        .select = select,
                        .period = [](const OptionValues& o) { return static_cast<int64_t>(o["period"]); }};

}  // namespace thimble
