// IST: a few layers train at a time, drawn by an importance that is learnt from losses with layers' adapters scaled
// down.
//
//   Paper   Yao et al. 2024 (IST, arXiv:2410.11772), algorithm 1; the authors' code is github.com/Kaiseem/IST
//   Draws   `layers` layers without replacement, with weights sigmoid(I); I is 0 as the run begins
//   Learns  before every period but the first, `probes` different sets S_k of `suppressed` layers are drawn by
//           1 - sigmoid(I); what their adapters add is scaled by 2^-halvings, which gives the loss L_k and the reward
//           r_k = exp(-L_k). For every layer of S_k: I <- I - rate (r_k - mean r) p (1 - p), p = sigmoid(I)
//   Trains  the drawn layers, and what is no layer's
//   Choice  I is minus the authors' score, which grows with unimportance. Layers are drawn with every period, where the
//           authors' code draws them at every step and learns every ten: states begin anew with a period (LISA), and
//           would at every step. Losses are those of the next step's tokens, where theirs are of 16 more examples
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/random.h"
#include "methods/selector.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("layers", 0, 0, 1'000'000, "that train at a time; 0: a quarter of the model's"),
    whole_number("suppressed", 0, 0, 1'000'000, "layers that are scaled down for a loss; 0: half of the model's"),
    whole_number("period", 10, 1, 1'000'000'000, "steps until importance is learnt and others are drawn"),
    whole_number("probes", 3, 2, 64, "losses that importance is learnt from"),
    whole_number("halvings", 2, 1, 30, "of what a suppressed layer adds: 2 leaves a quarter"),
    {"rate", 10, 0, 1e6, "of learning importance"}};
// Of drawing a set that is not among those before: there may be fewer sets than probes.
constexpr int kAttempts = 16;

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double importance_of(const SelectorInput& input, int64_t layer) {
  return input.importance.empty() ? 0 : input.importance[static_cast<size_t>(layer)];
}
// What an option says of so many layers, a part of all where it is 0.
int64_t count_of(const SelectorInput& input, std::string_view option, double part) {
  const auto count = static_cast<int64_t>(input.options[option]);
  return count > 0 ? count : std::max<int64_t>(1, static_cast<int64_t>(part * static_cast<double>(input.layers)));
}

// `count` layers without replacement, those of large weight more often: the first of exponential clocks with these
// rates (Efraimidis and Spirakis 2006).
template <class Weight>
std::vector<bool> drawn(const Random& random, const SelectorInput& input, int64_t count, Weight weight) {
  std::vector<std::pair<double, size_t>> times;
  for (int64_t layer = 0; layer < input.layers; ++layer) {
    const double u = (double{random.uniform(static_cast<uint64_t>(layer))} + 0x1p-25);  // in (0, 1)
    times.emplace_back(-std::log(u) / weight(importance_of(input, layer)), static_cast<size_t>(layer));
  }
  std::ranges::sort(times);
  std::vector<bool> out(static_cast<size_t>(input.layers));
  for (int64_t i = 0; i < count; ++i) out[times[static_cast<size_t>(i)].second] = true;
  return out;
}

Result<void> check(const SelectorInput& input) {
  CHECK_OK(layers_within(input, "ist"));
  if (input.options["suppressed"] <= static_cast<double>(input.layers)) return {};
  return fail(ErrorCode::invalid_argument, "--set ist.suppressed={}: the model has {} layers; give at most that many",
              input.options["suppressed"], input.layers);
}

Result<std::vector<Trains>> select(const SelectorInput& input) {
  CHECK_OK(check(input));
  const int64_t count = count_of(input, "layers", 0.25);
  std::vector<bool> layers(static_cast<size_t>(input.layers));
  if (input.draw == kLowestLayers)
    std::fill_n(layers.begin(), count, true);
  else
    layers = drawn(Random(input.seed, "ist", static_cast<uint64_t>(input.draw)), input, count, sigmoid);
  return train_in_turn(input, layers);
}

std::vector<std::vector<bool>> suppressed(const SelectorInput& input) {
  const int64_t count = count_of(input, "suppressed", 0.5);
  std::vector<std::vector<bool>> sets;
  while (std::ssize(sets) < static_cast<int64_t>(input.options["probes"])) {
    std::vector<bool> set;
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      const std::string stream = "ist probe " + std::to_string(sets.size()) + " " + std::to_string(attempt);
      set = drawn(Random(input.seed, stream, static_cast<uint64_t>(input.draw)), input, count,
                  [](double importance) { return sigmoid(-importance); });
      if (std::ranges::find(sets, set) == sets.end()) break;
    }
    sets.push_back(std::move(set));
  }
  return sets;
}

// A loss that is not finite has no reward.
double reward(double loss) { return std::isfinite(loss) ? std::exp(-loss) : 0; }

void learn(const OptionValues& options, std::span<const std::vector<bool>> sets, std::span<const double> losses,
           std::span<double> importance) {
  double mean = 0;
  for (const double loss : losses) mean += reward(loss) / static_cast<double>(losses.size());
  for (size_t layer = 0; layer < importance.size(); ++layer) {
    const double p = sigmoid(importance[layer]);
    for (size_t k = 0; k < sets.size(); ++k)
      if (sets[k][layer]) importance[layer] -= options["rate"] * (reward(losses[k]) - mean) * p * (1 - p);
  }
}

constexpr Probing kProbing = {
    .scale = [](const OptionValues& o) { return std::exp2(-o["halvings"]); }, .suppressed = suppressed, .learn = learn};

}  // namespace

const Selector kIst = {.name = "ist",
                       .summary = "a few layers of adapters at a time, drawn by an importance learnt from losses",
                       .paper = "Yao et al. 2024 (arXiv:2410.11772)",
                       .options = kOptions,
                       .select = select,
                       .period = [](const OptionValues& o) { return static_cast<int64_t>(o["period"]); },
                       .probing = &kProbing};

}  // namespace thimble
