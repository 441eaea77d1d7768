// Muon: the momentum of a matrix, brought near to orthogonal by Newton and Schulz's iteration; AdamW for the rest.
//
//   Paper   Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982 (scale)
//   Update  m <- mu m + g;  d = g + mu m (Nesterov);  X = d / |d|, five times X <- a X + (b A + c A A) X, A = X X^T
//           (a, b, c) = (3.4445, -4.7750, 2.0315);  p <- p - lr (0.2 sqrt(max(rows, columns)) X + wd p)
//   State   m of a matrix of the blocks; AdamW's m and v of embeddings, the head and vectors
//   Choice  Liu's scale, with which one rate serves both parts; `scale` 0 takes Jordan's sqrt(max(1, rows / columns)).
//           m is a sum as in Jordan's code, all in f32. Tall matrices use X^T X, which is the smaller
#include <cmath>

#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"momentum", 0.95, 0, 0.999999, "decay of the momentum of matrices"},
    zero_or_one("nesterov", 1, "1: look ahead"),
    whole_number("iterations", 5, 1, 20, "of Newton and Schulz"),
    {"scale", 0.2, 0, 100, "of a step, times the root of the larger side; 0: as in Jordan's code"},
    kAdamOptions[0],
    kAdamOptions[1],
    kAdamOptions[2],
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  if (!parameter.is_hidden_matrix()) return adam_states(parameter.shape);
  return {{"m", parameter.shape}};
}

// The momentum takes the gradient in; returns the direction.
ValueId direction_of(Update& u) {
  const double mu = u.options["momentum"];
  ValueId direction = kNone;
  Fused f(u.graph, "direction." + u.name());
  const Expr before = UpdateExpr::read_state(f, u, 0), whole = f.tensor(u.gradient);
  const Expr g = u.clip == kNone ? whole : whole * f.scalar(u.clip);
  const Expr m = mu * before + g;
  UpdateExpr::store_state(f, u, 0, m);
  f.output(direction, u.options["nesterov"] > 0 ? g + mu * m : m);
  f.emit();
  return direction;
}

void apply(Update& u) {
  if (!u.trained.is_hidden_matrix()) return apply_adamw(u);
  const ValueId x = nearly_orthogonal(u.graph, direction_of(u), static_cast<int>(u.options["iterations"]), u.name());
  const auto rows = static_cast<double>(u.trained.shape[0]), columns = static_cast<double>(u.trained.shape[1]);
  const double scale = u.options["scale"] > 0 ? u.options["scale"] * std::sqrt(std::max(rows, columns))
                                              : std::sqrt(std::max(1.0, rows / columns));
  Fused f(u.graph, "update." + u.name());
  const Expr p = f.tensor(u.parameter), d = f.tensor(x), rate = f.scalar(u.learning_rate);
  f.store(u.parameter, p * (1 - rate * u.decay) - scale * rate * d);
  f.emit();
}

}  // namespace

const Optimizer kMuon = {.name = "muon",
                         .summary = "momentum of matrices made orthogonal; AdamW for the rest",
                         .paper = "arXiv:2502.16982",
                         .learning_rate = 1e-3,
                         .options = kOptions,
                         .states = states,
                         .hooks = {.apply = apply}};

}  // namespace thimble
