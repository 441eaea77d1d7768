// last_layers: the layers near the head train, the bottom ones stay as they are.
//
//   Paper   Shi et al. 2023 (Telly), arXiv:2304.05216: Telly-K freezes the bottom K layers and the embeddings
//   Trains  what is first read at block L - layers or above; with `head` what is behind the blocks too
//   Choice  named by how many layers train, not by how many are frozen. A head that is the embedding is read before all
//           blocks, and stays frozen with the embedding
#include "methods/selector.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("layers", 2, 0, 1'000'000, "of the model's last, that train"),
                               zero_or_one("head", 1, "1: the last norm and a head of its own train too")};

Result<std::vector<Trains>> select(const SelectorInput& input) {
  const int64_t bottom = input.layers - TRY(layers_within(input, "last_layers"));
  const bool head = input.options["head"] != 0;
  return trained_where(input.parameters, [&](const Selectable& parameter) {
    return parameter.first >= input.layers ? head : parameter.first >= bottom;
  });
}

}  // namespace

const Selector kLastLayers = {.name = "last_layers",
                              .summary = "the last layers train, embeddings and bottom layers stay as they are",
                              .paper = "Shi et al. 2023 (Telly, arXiv:2304.05216)",
                              .options = kOptions,
                              .select = select};

}  // namespace thimble
