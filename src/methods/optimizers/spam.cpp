// SPAM: AdamW whose moments begin anew every so many steps, and which clips gradients that stand out.
//
//   Paper   Huang et al. 2025, arXiv:2501.06842, Algorithm 1
//   Update  every `interval` steps m = v = 0;  k steps later: where k >= `quiet` and g^2 > threshold v,
//           g <- sign(g) sqrt(threshold v);  AdamW's step times 1 - 0.99 (1 + cos(pi min(k, warmup) / warmup)) / 2
//   State   m, v: shape of p
//   Choice  all elements train (density 1); bias correction counts all steps, and the first interval is not warmed up,
//           as in the authors' code
#include <numbers>

#include "methods/optimizers/adamw.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta1", 0.9, 0, 0.999999, "decay of the mean of gradients"},
    {"beta2", 0.999, 0, 0.9999999, "decay of the mean of squared gradients"},
    {"epsilon", 1e-6, 0, 1, "added to the root"},
    whole_number("interval", 500, 2, 1'000'000'000, "steps from one reset of the moments to the next"),
    whole_number("warmup", 150, 1, 1'000'000'000, "steps in which the rate comes back after a reset"),
    {"threshold", 5000, 0, 1e9, "a squared gradient of so many times its mean is clipped; 0: none is"},
    whole_number("quiet", 20, 0, 1'000'000'000, "steps after a reset in which nothing is clipped"),
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  std::vector<StateSpec> out = adam_states(parameter.shape);
  for (StateSpec& state : out) state.reset_every = static_cast<int64_t>(options["interval"]);
  return out;
}

void apply(Update& update) {
  const OptionValues& o = update.options;
  const double b1 = o["beta1"], b2 = o["beta2"], threshold = o["threshold"];
  UpdateExpr u(update);
  const Expr since = u.step - 1 - o["interval"] * floor((u.step - 1) / o["interval"]);  // the last reset
  Expr g = u.g;
  if (threshold > 0) {
    const Expr limit = threshold * u.states[1];
    const Expr spike = greater(since, o["quiet"] - 0.5) * greater(u.g * u.g, limit);
    g = select(spike, sign(u.g) * sqrt(limit), u.g);
  }
  const Expr m = b1 * u.states[0] + (1 - b1) * g;
  const Expr v = b2 * u.states[1] + (1 - b2) * (g * g);
  const Expr later = greater(u.step, o["interval"] + 0.5);
  const Expr back = 0.495 * (1 + cos(std::numbers::pi / o["warmup"] * min(since, o["warmup"])));
  const Expr size = u.learning_rate * (1 - later * back) / (1 - pow(b1, u.step));
  const Expr root = sqrt(v) / sqrt(1 - pow(b2, u.step)) + o["epsilon"];
  u.emit(u.p * (1 - u.learning_rate * update.decay) - size * m / root, {m, v});
}

}  // namespace

const Optimizer kSpam = {.name = "spam",
                         .summary = "AdamW with resets of its moments and clipping of spikes",
                         .paper = "arXiv:2501.06842",
                         .learning_rate = 2e-4,
                         .options = kOptions,
                         .states = states,
                         .hooks = {.apply = apply}};

}  // namespace thimble
