// Adafactor: the second moments of a matrix as the product of its rows' and columns' means.
//
//   Paper   Shazeer and Stern 2018, arXiv:1804.04235, Algorithms 4 and 5
//   Update  r <- b r + (1-b) mean_j g^2;  c <- b c + (1-b) mean_i g^2, b = 1 - t^-decay;  v = r c / mean(r)
//           u = g / sqrt(v);  p <- p - lr wd p - max(eps2, rms(p)) min(lr, t^-1/2) u / max(1, rms(u) / clip)
//   State   r, c: one number a row and a column; of a vector v, as it is
//   Choice  as torch.optim.Adafactor: decoupled decay, no momentum, v not below eps1^2
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"decay", 0.8, 0, 1, "how fast the mean of squares comes to weigh all steps alike"},
    {"epsilon1", 0x1p-23, 0, 1, "least root of a second moment"},
    {"epsilon2", 1e-3, 0, 1, "least size of a parameter, for its step"},
    {"threshold", 1, 1e-6, 1e6, "largest root mean square of a step before the rate"},
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  if (!parameter.is_matrix()) return {{.name = "v", .shape = parameter.shape}};
  return {{.name = "row", .shape = {parameter.shape[0]}, .any_codec = false},
          {.name = "column", .shape = {parameter.shape[1]}, .any_codec = false}};
}

// state <- b state + (1-b) squares * factor, a vector.
void take_squares(Update& u, size_t state, ValueId squares, double factor) {
  Fused f(u.graph, "squares." + u.name());
  const Expr before = f.tensor(u.states[state]), sum = f.tensor(squares), step = f.scalar(u.step);
  const Expr share = pow(step, -u.options["decay"]);
  f.store(u.states[state], before + share * (factor * sum - before));
  f.emit();
}

// g / sqrt(v), a new value.
ValueId normalised(Update& u, ValueId g) {
  const double least = u.options["epsilon1"] * u.options["epsilon1"];
  Fused f(u.graph, "normalised." + u.name());
  const Expr gradient = f.tensor(g);
  ValueId out = kNone;
  if (!u.trained.is_matrix()) {
    const Expr share = pow(f.scalar(u.step), -u.options["decay"]), before = UpdateExpr::read_state(f, u, 0);
    const Expr v = before + share * (gradient * gradient - before);
    UpdateExpr::store_state(f, u, 0, v);
    f.output(out, gradient / sqrt(max(v, least)));
    f.emit();
    return out;
  }
  const ValueId rows = reduce(u.graph, u.states[0], Reduce::sum, ReduceOver::all, "rows." + u.name());
  const Expr r = f.column(u.states[0]), c = f.row(u.states[1]), total = f.scalar(rows);
  const Expr mean = max(total / static_cast<double>(u.trained.shape[0]), u.options["epsilon1"]);
  f.output(out, gradient / sqrt(max(r * c / mean, least)));
  f.emit();
  return out;
}

void apply(Update& u) {
  const ValueId g = clipped_gradient(u);
  if (u.trained.is_matrix()) {
    take_squares(u, 0, reduce(u.graph, g, Reduce::squares, ReduceOver::columns, "row." + u.name()),
                 1 / static_cast<double>(u.trained.shape[1]));
    take_squares(u, 1, reduce(u.graph, g, Reduce::squares, ReduceOver::rows, "column." + u.name()),
                 1 / static_cast<double>(u.trained.shape[0]));
  }
  const ValueId direction = normalised(u, g);
  const auto count = static_cast<double>(u.trained.shape.count());
  const ValueId size = reduce(u.graph, u.parameter, Reduce::squares, ReduceOver::all, "size." + u.name());
  const ValueId length = reduce(u.graph, direction, Reduce::squares, ReduceOver::all, "length." + u.name());
  Fused f(u.graph, "update." + u.name());
  const Expr p = f.tensor(u.parameter), d = f.tensor(direction), rate = f.scalar(u.learning_rate);
  const Expr scale = max(sqrt(f.scalar(size) / count), u.options["epsilon2"]) * min(rate, 1 / sqrt(f.scalar(u.step)));
  const Expr limit = max(sqrt(f.scalar(length) / count) / u.options["threshold"], 1);
  f.store(u.parameter, p * (1 - rate * u.decay) - scale / limit * d);
  f.emit();
}

}  // namespace

const Optimizer kAdafactor = {.name = "adafactor",
                              .summary = "second moments of a matrix by rows and columns",
                              .paper = "arXiv:1804.04235",
                              .learning_rate = 1e-2,
                              .options = kOptions,
                              .states = states,
                              .hooks = {.apply = apply}};

}  // namespace thimble
