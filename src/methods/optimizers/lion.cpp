// Lion: step along the sign of an interpolated momentum.
//
//   Paper   Chen et al. 2023, arXiv:2302.06675, Algorithm 2
//   Update  c <- b1*m + (1-b1)*g;  p <- p - lr*(sign(c) + wd*p);  m <- b2*m + (1-b2)*g
//   State   m, shape of p
//   Choice  decay is decoupled, as in the paper; no bias correction
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta1", 0.9, 0, 0.999999, "weight of the momentum in the step"},
    {"beta2", 0.99, 0, 0.999999, "decay of the momentum"},
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) { return {{"m", parameter.shape}}; }

void apply(Update& update) {
  const double b1 = update.options["beta1"], b2 = update.options["beta2"];
  UpdateExpr u(update);
  const Expr c = b1 * u.states[0] + (1 - b1) * u.g;
  const Expr m = b2 * u.states[0] + (1 - b2) * u.g;
  u.emit(u.p - u.learning_rate * (sign(c) + update.decay * u.p), {m});
}

}  // namespace

const Optimizer kLion = {.name = "lion",
                         .summary = "step along the sign of an interpolated momentum",
                         .paper = "arXiv:2302.06675",
                         .learning_rate = 2e-5,
                         .options = kOptions,
                         .states = states,
                         .hooks = {.apply = apply}};

}  // namespace thimble
