// Lookahead: every k steps slow weights go part of the way to those of an optimizer, which then continues from there.
//
//   Paper   Zhang et al. 2019, arXiv:1907.08610, Algorithm 1
//   Update  every k steps: s <- s + alpha (p - s);  p <- s
//   State   s, shape of p, which begins with p
//   Choice  the optimizer's states stay as they are (the paper's default). Evaluation and files take p, which is s
//           after every k-th step
#include <cmath>

#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr std::string_view kBegins = "lookahead begins";

constexpr Option kOptions[] = {
    whole_number("k", 5, 1, 1'000'000, "steps after which the slow weights move"),
    {"alpha", 0.5, 0, 1, "how far they go to the optimizer's, 1: all the way"},
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  return {{.name = "slow", .shape = parameter.shape, .any_codec = false}};
}

void before(Update& u) {
  if (u.is_due(kBegins)) store_over(u, 0, u.parameter);
}

void after(Update& u) {
  const double k = std::floor(u.options["k"]);
  Fused f(u.graph, "lookahead." + u.name());
  const Expr p = f.tensor(u.parameter), slow = f.tensor(u.states[0]), step = f.scalar(u.step);
  const Expr due = greater(0.5, step - k * floor(step / k));
  const Expr next = slow + u.options["alpha"] * due * (p - slow);
  f.store(u.parameter, select(due, next, p));
  f.store(u.states[0], next);
  f.emit();
}

constexpr Period kPeriods[] = {{kBegins, [](const OptionValues&) { return kOnce; }}};

}  // namespace

const Wrapper kLookahead = {.name = "lookahead",
                            .summary = "slow weights that follow those of the optimizer",
                            .paper = "arXiv:1907.08610",
                            .options = kOptions,
                            .states = states,
                            .before = before,
                            .after = after,
                            .periods = kPeriods};

}  // namespace thimble
