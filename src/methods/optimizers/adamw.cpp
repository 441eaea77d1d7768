// AdamW: Adam with decoupled weight decay.
//
//   Paper   Loshchilov and Hutter 2017, arXiv:1711.05101, Algorithm 2; Kingma and Ba 2014, arXiv:1412.6980
//   Update  p <- p - lr*wd*p;  m <- b1*m + (1-b1)*g;  v <- b2*v + (1-b2)*g^2;
//           p <- p - lr * (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
//   State   m, v: shape of p
//   Choice  decay before the step, eps outside of the root and after the correction, as in torch.optim.AdamW
#include "methods/optimizers/adamw.h"

namespace thimble {
namespace {

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) { return adam_states(parameter.shape); }

// The moments after a step, and the root that divides the mean.
struct Moments {
  Expr m, v, root;
};
Moments moments(const Update& update, Expr m, Expr v, Expr g, Expr step) {
  const double b1 = update.options["beta1"], b2 = update.options["beta2"];
  const Expr mean = b1 * m + (1 - b1) * g;
  const Expr squares = b2 * v + (1 - b2) * (g * g);
  return {mean, squares, sqrt(squares) / sqrt(1 - pow(b2, step)) + update.options["epsilon"]};
}

}  // namespace

std::vector<StateSpec> adam_states(const Shape& shape) {
  return {{"m", shape}, {.name = "v", .shape = shape, .squares = true}};
}

ValueId adam_direction(Update& update, ValueId gradient, size_t first) {
  Fused f(update.graph, "direction." + update.name());
  const Expr m = UpdateExpr::read_state(f, update, first), v = UpdateExpr::read_state(f, update, first + 1);
  const Expr g = f.tensor(gradient), step = f.scalar(update.step);
  const auto [mean, squares, root] = moments(update, m, v, g, step);
  UpdateExpr::store_state(f, update, first, mean);
  UpdateExpr::store_state(f, update, first + 1, squares);
  ValueId direction = kNone;
  f.output(direction, mean / ((1 - pow(update.options["beta1"], step)) * root));
  f.emit();
  return direction;
}

ValueId adam_ratio(Update& update, ValueId gradient) {
  const double b1 = update.options["beta1"], b2 = update.options["beta2"];
  Fused f(update.graph, "ratio." + update.name());
  const Expr before = UpdateExpr::read_state(f, update, 0), squared = UpdateExpr::read_state(f, update, 1);
  const Expr g = f.tensor(gradient), m = b1 * before + (1 - b1) * g, v = b2 * squared + (1 - b2) * (g * g);
  UpdateExpr::store_state(f, update, 0, m);
  UpdateExpr::store_state(f, update, 1, v);
  ValueId out = kNone;
  f.output(out, m / (sqrt(v) + update.options["epsilon"]));
  f.emit();
  return out;
}

void apply_adamw(Update& update) {
  UpdateExpr u(update);
  const double b1 = update.options["beta1"], b2 = update.options["beta2"];
  const Expr m = b1 * u.states[0] + (1 - b1) * u.g;
  const Expr v = b2 * u.states[1] + (1 - b2) * (u.g * u.g);
  const Expr size = u.learning_rate / (1 - pow(b1, u.step));
  const Expr root = sqrt(v) / sqrt(1 - pow(b2, u.step)) + update.options["epsilon"];
  u.emit(u.p * (1 - u.learning_rate * update.decay) - size * m / root, {m, v});
}

const Optimizer kAdamw = {.name = "adamw",
                          .summary = "Adam with decoupled weight decay",
                          .paper = "arXiv:1711.05101",
                          .learning_rate = 2e-4,
                          .options = kAdamOptions,
                          .states = states,
                          .hooks = {.apply = apply_adamw}};

}  // namespace thimble
