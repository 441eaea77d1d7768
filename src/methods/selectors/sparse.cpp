// sparse: the parameters that contribute most to what is learnt, for a number of bytes.
//
//   Paper   Lin et al. 2022 (On-Device Training Under 256KB Memory, arXiv:2206.15472), section 3.2: layers are chosen by
//           their contribution under a bound of memory, once, before training; Zhu et al. 2023 (PockEngine,
//           arXiv:2310.17752): the backward pass of what is left out is never built
//   Score   c_i = the mean over the first micro-batches of |dL/dp_i|^2: how fast the loss falls when p_i alone moves
//           down its gradient
//   Trains  by falling c_i / bytes_i, whatever still fits `bytes`; bytes_i = f32 master + gradient + states
//   Choice  the authors measure accuracy with each layer trained alone and search with evolution; here the score is
//           first-order, from the run's own data, and the search is greedy
#include <algorithm>
#include <numeric>

#include "methods/selector.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"bytes", 0, 0, 1e15, "of masters, gradients and states of all that trains, at most"},
    {"batches", 4, 1, 1024, "micro-batches that contributions are measured on"}};

Result<std::vector<Trains>> select(const SelectorInput& input) {
  const double most = input.options["bytes"];
  if (most == 0)
    return fail(ErrorCode::invalid_argument,
                "--select sparse: say how many bytes may train, --set select.bytes=50000000");
  const auto& all = input.parameters;
  std::vector<size_t> order(all.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto worth = [&](size_t i) { return input.scores[i] / static_cast<double>(all[i].training_bytes); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return worth(a) > worth(b); });
  std::vector<Trains> out(all.size(), Trains::never);
  double used = 0;
  for (const size_t i : order) {
    const auto bytes = static_cast<double>(all[i].training_bytes);
    if (used + bytes > most || input.scores[i] <= 0) continue;
    used += bytes, out[i] = Trains::now;
  }
  if (used > 0) return out;
  const auto least = std::ranges::min_element(all, {}, &Selectable::training_bytes);
  return fail(ErrorCode::invalid_argument,
              "--set select.bytes={}: no parameter with its gradient and states takes so little; the smallest, '{}', "
              "takes {}",
              most, least->name, least->training_bytes);
}

}  // namespace

const Selector kSparse = {.name = "sparse",
                          .summary = "what contributes most for a number of bytes, chosen from the data",
                          .paper = "Lin et al. 2022 (arXiv:2206.15472), Zhu et al. 2023 (PockEngine, arXiv:2310.17752)",
                          .options = kOptions,
                          .select = select,
                          .scored = [](const OptionValues& o) { return static_cast<int64_t>(o["batches"]); }};

}  // namespace thimble
