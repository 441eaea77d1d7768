// Lookahead: every k steps of any optimizer slow weights follow the fast ones part of the way, and these begin there.
//
//   Paper   Zhang et al. 2019, arXiv:1907.08610, Algorithm 1
//   Update  every k steps: s <- s + alpha (p - s);  p <- s
//   State   s, shape of p
//   Choice  states of the optimizer go on as they are (the paper's default). Evaluation and files take p, as most code
//           does: after a multiple of k steps p is s
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"k", 5, 1, 1e6, "steps from one meeting of the weights to the next"},
    {"alpha", 0.5, 0, 1, "of the way to the fast weights"},
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  return {{.name = "slow", .shape = parameter.shape, .any_codec = false}};
}

void before(Update& u) {
  if (!u.is_due("lookahead begins")) return;
  Fused f(u.graph, "slow." + u.name());
  f.store(u.states[0], f.tensor(u.parameter));
  f.emit();
}

// The period is due at the first step and every k from there; weights meet at the end of every k-th.
void after(Update& u) {
  Fused f(u.graph, "lookahead." + u.name());
  const Expr p = f.tensor(u.parameter), slow = f.tensor(u.states[0]), step = f.scalar(u.step);
  const auto k = u.options["k"];
  const Expr due = greater(0.5, step - k * floor(step / k)), next = slow + u.options["alpha"] * due * (p - slow);
  f.store(u.parameter, select(due, next, p));
  f.store(u.states[0], next);
  f.emit();
}

constexpr Period kPeriods[] = {{"lookahead begins", [](const OptionValues&) { return kOnce; }}};

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
