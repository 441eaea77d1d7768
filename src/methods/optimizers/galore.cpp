// GaLore: AdamW in the few directions in which the gradient of a matrix is largest; AdamW for the rest.
//
//   Paper   Zhao et al. 2024, arXiv:2403.03507, Algorithm 2
//   Update  every `interval` steps P <- the r largest singular vectors of G's smaller side;  R = P^T G (or G P)
//           N = Adam(R);  p <- p - lr (scale P N + wd p)
//   State   of a matrix of the blocks [m, n], m <= n: P [m, r] and Adam's m, v [r, n]; r(2n + m) numbers
//   Choice  P by a randomised method with power iterations in place of a whole decomposition: it is the same where it
//           has converged. A gradient is projected as soon as a pass has made it, so that only R is held. P is of the
//           first micro-batch of its step. The norm that is clipped is that of R
#include "methods/optimizers/adamw.h"
#include "methods/optimizers/projection.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    kBasisOptions[0],
    kBasisOptions[1],
    {"scale", 0.25, 0, 1000, "of the step in the projected directions"},
    kBasisOptions[2],
    kAdamOptions[0],
    kAdamOptions[1],
    {"epsilon", 1e-6, 0, 1, "added to the root"},
};

// m and v first, as AdamW has them.
std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  if (!parameter.is_hidden_matrix()) return adam_states(parameter.shape);
  const Projection p(parameter, options);
  std::vector<StateSpec> out = basis_states(p);
  return out;
}

Shape accumulator(const Parameter& parameter, const OptionValues& options) {
  return parameter.is_hidden_matrix() ? Projection(parameter, options).low() : Shape{};
}

ValueId absorb(Update& u) {
  const Projection p(u.trained, u.options);
  renew_basis(u, p, 2, u.gradient, "galore");
  const ValueId low = p.project(u.graph, u.gradient, u.states[2], "low." + u.name());
  Fused f(u.graph, "absorbed." + u.name());
  const Expr sum = f.tensor(u.accumulator) + f.tensor(low);
  f.store(u.accumulator, sum);
  f.emit();
  return u.accumulator;
}

void apply(Update& u) {
  if (!u.trained.is_hidden_matrix()) return apply_adamw(u);
  const ValueId low = clipped_gradient(u);
  const ValueId direction =
      Projection(u.trained, u.options).back(u.graph, adam_direction(u, low), u.states[2], "back." + u.name());
  Fused f(u.graph, "update." + u.name());
  const Expr p = f.tensor(u.parameter), d = f.tensor(direction), rate = f.scalar(u.learning_rate);
  f.store(u.parameter, p * (1 - rate * u.decay) - u.options["scale"] * rate * d);
  f.emit();
}

}  // namespace

const Optimizer kGalore = {.name = "galore",
                           .summary = "AdamW in the few directions where a matrix's gradient is largest",
                           .paper = "arXiv:2403.03507",
                           .learning_rate = 2e-3,
                           .options = kOptions,
                           .states = states,
                           .accumulator = accumulator,
                           .hooks = {.absorb = absorb, .apply = apply},
                           .periods = kBasisPeriods};

}  // namespace thimble
