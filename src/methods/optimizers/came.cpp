// CAME: Adafactor with a momentum whose steps are longer where it agrees with the updates that it is made of.
//
//   Paper   Luo et al. 2023, arXiv:2307.02047, Algorithm 2
//   Update  r, c <- b2-means over columns, rows of g^2 + eps1;  u = g / sqrt(r c / mean(r)), shortened to a root mean
//           square of `threshold`;  m <- b1 m + (1-b1) u;  R, C <- b3-means of (u - m)^2 + eps2
//           p <- p - lr wd p - lr m / sqrt(R C / mean(R))
//   State   of a matrix [m, n]: the momentum, and 2 (m + n) numbers; of a vector v and the momentum
//   Choice  as the authors' code (came-pytorch 0.1.3): vectors have v whole and no confidence
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta1", 0.9, 0, 0.999999, "decay of the mean of updates"},
    {"beta2", 0.999, 0, 0.9999999, "decay of the means of squared gradients"},
    {"beta3", 0.9999, 0, 0.9999999, "decay of the means of squared differences from the momentum"},
    {"epsilon1", 1e-30, 0, 1, "added to squared gradients"},
    {"epsilon2", 1e-16, 0, 1, "added to squared differences"},
    {"threshold", 1, 1e-6, 1e6, "largest root mean square of an update before the rate"},
};

enum State : size_t { kM, kRow, kColumn, kRowOfRest, kColumnOfRest };

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  const StateSpec momentum{.name = "m", .shape = parameter.shape};
  if (!parameter.is_matrix()) return {momentum, {.name = "v", .shape = parameter.shape, .squares = true}};
  std::vector<StateSpec> out{momentum};
  for (const auto& [name, side] : {std::pair{"row", 0}, {"column", 1}, {"rest_row", 0}, {"rest_column", 1}})
    out.push_back({.name = name, .shape = {parameter.shape[side]}, .any_codec = false});
  return out;
}

// states[first] and the one after it take the means of x^2 + epsilon over columns and rows.
void take_squares(Update& u, size_t first, ValueId x, double beta, double epsilon) {
  for (size_t side : {0, 1}) {
    const ValueId sum =
        reduce(u.graph, x, Reduce::squares, side == 0 ? ReduceOver::columns : ReduceOver::rows, "squares." + u.name());
    Fused f(u.graph, "means." + u.name());
    const Expr before = f.tensor(u.states[first + side]), now = f.tensor(sum);
    const auto count = static_cast<double>(u.trained.shape[side == 0 ? 1 : 0]);
    f.store(u.states[first + side], beta * before + (1 - beta) * (now / count + epsilon));
    f.emit();
  }
}

// 1 / sqrt(r c / mean(r)) in a node over the whole matrix.
Expr factored(Fused& f, const Update& u, size_t first, ValueId rows) {
  const Expr mean = f.scalar(rows) / static_cast<double>(u.trained.shape[0]);
  return 1 / (sqrt(f.column(u.states[first]) / mean) * sqrt(f.row(u.states[first + 1])));
}

ValueId sum_of(Update& u, size_t state) {
  return reduce(u.graph, u.states[state], Reduce::sum, ReduceOver::all, "rows." + u.name());
}

// The gradient divided by the roots of its mean squares.
ValueId normalised(Update& u, ValueId g) {
  ValueId out = kNone;
  if (u.trained.is_matrix()) {
    take_squares(u, kRow, g, u.options["beta2"], u.options["epsilon1"]);
    const ValueId rows = sum_of(u, kRow);
    Fused f(u.graph, "normalised." + u.name());
    const Expr gradient = f.tensor(g);
    f.output(out, gradient * factored(f, u, kRow, rows));
    f.emit();
    return out;
  }
  const double b2 = u.options["beta2"];
  Fused f(u.graph, "normalised." + u.name());
  const Expr before = UpdateExpr::read_state(f, u, 1), gradient = f.tensor(g);
  const Expr v = b2 * before + (1 - b2) * (gradient * gradient + u.options["epsilon1"]);
  UpdateExpr::store_state(f, u, 1, v);
  f.output(out, gradient / sqrt(v));
  f.emit();
  return out;
}

// The momentum takes the shortened update in. Returns it, and its difference from the update.
std::pair<ValueId, ValueId> take_update(Update& u, ValueId update) {
  const double b1 = u.options["beta1"];
  const ValueId length = squared_length(u.graph, update, "length." + u.name());
  ValueId momentum = kNone, rest = kNone;
  Fused f(u.graph, "momentum." + u.name());
  const Expr before = UpdateExpr::read_state(f, u, kM), whole = f.tensor(update);
  const Expr size = sqrt(f.scalar(length) / static_cast<double>(u.trained.shape.count()));
  const Expr now = whole / max(size / u.options["threshold"], 1);
  const Expr m = b1 * before + (1 - b1) * now;
  UpdateExpr::store_state(f, u, kM, m);
  f.output(momentum, m);
  f.output(rest, now - m);
  f.emit();
  return {momentum, rest};
}

void apply(Update& u) {
  const auto [momentum, rest] = take_update(u, normalised(u, clipped_gradient(u)));
  ValueId rows = kNone;
  if (u.trained.is_matrix()) {
    take_squares(u, kRowOfRest, rest, u.options["beta3"], u.options["epsilon2"]);
    rows = sum_of(u, kRowOfRest);
  }
  Fused f(u.graph, "update." + u.name());
  const Expr p = f.tensor(u.parameter), m = f.tensor(momentum), rate = f.scalar(u.learning_rate);
  f.store(u.parameter, p * (1 - rate * u.decay) - rate * (rows == kNone ? m : m * factored(f, u, kRowOfRest, rows)));
  f.emit();
}

}  // namespace

const Optimizer kCame = {.name = "came",
                         .summary = "Adafactor with a momentum that is trusted where it is steady",
                         .paper = "arXiv:2307.02047",
                         .learning_rate = 2e-4,
                         .options = kOptions,
                         .states = states,
                         .hooks = {.apply = apply}};

}  // namespace thimble
