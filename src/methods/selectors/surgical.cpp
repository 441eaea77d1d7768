// surgical: the layers with the most Fisher information train.
//
//   Paper   Lodha et al. 2023 (On Surgical Fine-tuning for Language Encoders, arXiv:2310.17041): layers are ranked by
//           the diagonal of the Fisher information matrix, summed over their parameters
//   Score   F_l = the mean over the first micro-batches of the sum of squared gradients of layer l
//   Trains  the `layers` with the largest F_l; with `head` what is behind the blocks too
//   Choice  the gradient is that of a micro-batch, where the paper takes that of an example: --batch 1 is the paper's
#include <algorithm>
#include <numeric>

#include "methods/selector.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("layers", 2, 1, 1'000'000, "with the most information, that train"),
                               zero_or_one("head", 1, "1: the last norm and a head of its own train too"),
                               whole_number("batches", 4, 1, 1024, "micro-batches that information is measured on")};

Result<std::vector<Trains>> select(const SelectorInput& input) {
  const int64_t wanted = TRY(layers_within(input, "surgical"));
  std::vector<double> information(static_cast<size_t>(input.layers), 0);
  for (size_t i = 0; i < input.parameters.size(); ++i) {
    const Selectable& parameter = input.parameters[i];
    if (parameter.first >= 0 && parameter.first < input.layers)
      information[static_cast<size_t>(parameter.first)] += input.scores[i];
  }
  std::vector<int> order(information.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return information[static_cast<size_t>(a)] > information[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(wanted));
  const bool head = input.options["head"] != 0;
  return trained_where(input.parameters, [&](const Selectable& parameter) {
    if (parameter.first >= input.layers) return head;
    return std::ranges::find(order, parameter.first) != order.end();
  });
}

}  // namespace

const Selector kSurgical = {.name = "surgical",
                            .summary = "the layers with the most Fisher information, chosen from the data",
                            .paper = "Lodha et al. 2023 (arXiv:2310.17041)",
                            .options = kOptions,
                            .select = select,
                            .scored = [](const OptionValues& o) { return static_cast<int64_t>(o["batches"]); }};

}  // namespace thimble
