// AdamW: Adam with decoupled weight decay.
//
//   Paper   Loshchilov and Hutter 2017, arXiv:1711.05101, Algorithm 2; Kingma and Ba 2014, arXiv:1412.6980
//   Update  p <- p - lr*wd*p;  m <- b1*m + (1-b1)*g;  v <- b2*v + (1-b2)*g^2;
//           p <- p - lr * (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
//   State   m, v: shape of p
//   Choice  decay before the step, eps outside of the root and after the correction, as in torch.optim.AdamW
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta1", 0.9, 0, 0.999999, "decay of the mean of gradients"},
    {"beta2", 0.999, 0, 0.9999999, "decay of the mean of squared gradients"},
    {"epsilon", 1e-8, 0, 1, "added to the root"},
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  return {{"m", parameter.shape}, {.name = "v", .shape = parameter.shape, .squares = true}};
}

void apply(Update& update) {
  const double b1 = update.options["beta1"], b2 = update.options["beta2"];
  UpdateExpr u(update);
  const Expr m = b1 * u.states[0] + (1 - b1) * u.g;
  const Expr v = b2 * u.states[1] + (1 - b2) * (u.g * u.g);
  const Expr size = u.learning_rate / (1 - pow(b1, u.step));
  const Expr root = sqrt(v) / sqrt(1 - pow(b2, u.step)) + update.options["epsilon"];
  u.emit(u.p * (1 - u.learning_rate * update.decay) - size * m / root, {m, v});
}

}  // namespace

const Optimizer kAdamw = {.name = "adamw",
                          .summary = "Adam with decoupled weight decay",
                          .paper = "arXiv:1711.05101",
                          .learning_rate = 2e-4,
                          .options = kOptions,
                          .states = states,
                          .hooks = {.apply = apply}};

}  // namespace thimble
