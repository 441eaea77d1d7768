// LAMB: AdamW's direction, as long as the parameter itself.
//
//   Paper   You et al. 2019, arXiv:1904.00962, Algorithm 2
//   Update  m, v as Adam's;  u = (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps) + wd p;  p <- p - lr |p| / |u| u
//   State   m, v: shape of p
//   Choice  the ratio is 1 where either norm is 0; no bound on |p|
#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta1", 0.9, 0, 0.999999, "decay of the mean of gradients"},
    {"beta2", 0.999, 0, 0.9999999, "decay of the mean of squared gradients"},
    {"epsilon", 1e-6, 0, 1, "added to the root"},
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) { return adam_states(parameter.shape); }

void apply(Update& u) {
  const ValueId g = clipped_gradient(u);
  ValueId direction = adam_direction(u, g);
  if (u.decay > 0) {
    Fused f(u.graph, "decayed." + u.name());
    const Expr d = f.tensor(direction), p = f.tensor(u.parameter);
    f.output(direction, d + u.decay * p);
    f.emit();
  }
  const ValueId size = squared_length(u.graph, u.parameter, "size." + u.name()),
                length = squared_length(u.graph, direction, "length." + u.name());
  Fused f(u.graph, "update." + u.name());
  const Expr p = f.tensor(u.parameter), d = f.tensor(direction), rate = f.scalar(u.learning_rate);
  const Expr own = sqrt(f.scalar(size)), of_step = sqrt(f.scalar(length));
  const Expr both = greater(own, 0) * greater(of_step, 0);
  f.store(u.parameter, p - rate * select(both, own / max(of_step, 1e-30), f.constant(1)) * d);
  f.emit();
}

}  // namespace

const Optimizer kLamb = {.name = "lamb",
                         .summary = "AdamW's direction, scaled to the size of each parameter",
                         .paper = "arXiv:1904.00962",
                         .learning_rate = 1e-3,
                         .options = kOptions,
                         .states = states,
                         .hooks = {.apply = apply}};

}  // namespace thimble
