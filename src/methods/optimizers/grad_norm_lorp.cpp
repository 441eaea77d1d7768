// GradNormLoRP: AdamW on the rows of a matrix apart, their lengths and their directions; of the directions' gradient in
// the few dimensions in which it is largest.
//
//   Paper   Huang et al. 2024, arXiv:2412.19616; rows as length and direction: Salimans and Kingma 2016,
//           arXiv:1602.07868, eq. 3; the projection: Zhao et al. 2024, arXiv:2403.03507
//   Update  w_i = m_i d_i, |d_i| = 1;  dm_i = g_i.d_i;  D_i = m_i (g_i - dm_i d_i)
//           every `interval` steps P <- the r largest singular vectors of D's smaller side;  N = Adam(P^T D) (or D P)
//           m <- m - lr Adam(dm);  d <- d - lr scale P N, of length 1 again;  w <- (1 - lr wd) m d
//   State   of a matrix of the blocks [m, n], m <= n: P [m, r], Adam's of the projection [r, n] and of the lengths [m]
//   Choice  lengths and directions are those of the weight itself, so that neither is stored; the
//           direction of a row is of length 1 after every step. The gradient is held whole. P as galore finds it
#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"
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
constexpr double kLeastLength = 1e-12;

enum State : size_t { kM, kV, kBasis, kLengthM, kLengthV };

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  if (!parameter.is_hidden_matrix()) return adam_states(parameter.shape);
  const Projection p(parameter, options);
  const Shape rows{parameter.shape[0]};
  std::vector<StateSpec> out = basis_states(p);
  out.push_back({.name = "length_m", .shape = rows});
  out.push_back({.name = "length_v", .shape = rows, .squares = true});
  return out;
}

Expr length(Fused& f, ValueId squares) { return sqrt(f.column(squares)) + kLeastLength; }

// Of lengths [m], and of directions [m, n].
struct Gradients {
  ValueId lengths = kNone, directions = kNone;
};
Gradients gradients(Update& u, ValueId g, ValueId squares) {
  Gradients out;
  ValueId product = kNone;
  Fused both(u.graph, "along." + u.name());
  const Expr each = both.tensor(u.parameter) * both.tensor(g);
  both.output(product, each);
  both.emit();
  const ValueId along = reduce(u.graph, product, Reduce::sum, ReduceOver::columns, "sums." + u.name());
  Fused l(u.graph, "length_gradient." + u.name());
  const Expr of_length = l.tensor(along) / (sqrt(l.tensor(squares)) + kLeastLength);
  l.output(out.lengths, of_length);
  l.emit();
  Fused d(u.graph, "direction_gradient." + u.name());
  const Expr m = length(d, squares);
  const Expr of_direction = m * d.tensor(g) - d.tensor(u.parameter) * d.column(out.lengths);
  d.output(out.directions, of_direction);
  d.emit();
  return out;
}

void apply(Update& u) {
  if (!u.trained.is_hidden_matrix()) return apply_adamw(u);
  const Projection low(u.trained, u.options);
  const ValueId g = clipped_gradient(u);
  const ValueId squares = reduce(u.graph, u.parameter, Reduce::squares, ReduceOver::columns, "squares." + u.name());
  const Gradients gradient = gradients(u, g, squares);
  renew_basis(u, low, kBasis, gradient.directions, "grad_norm_lorp");
  const ValueId projected = low.project(u.graph, gradient.directions, u.states[kBasis], "low." + u.name());
  const ValueId step = low.back(u.graph, adam_direction(u, projected, kM), u.states[kBasis], "back." + u.name());
  const ValueId length_step = adam_direction(u, gradient.lengths, kLengthM);
  ValueId moved = kNone;
  Fused d(u.graph, "moved." + u.name());
  const Expr direction = d.tensor(u.parameter) / length(d, squares);
  d.output(moved, direction - u.options["scale"] * d.scalar(u.learning_rate) * d.tensor(step));
  d.emit();
  const ValueId moved_squares = reduce(u.graph, moved, Reduce::squares, ReduceOver::columns, "moved." + u.name());
  Fused f(u.graph, "update." + u.name());
  (void)f.tensor(u.parameter);
  const Expr rate = f.scalar(u.learning_rate), m = length(f, squares) - rate * f.column(length_step);
  f.store(u.parameter, (1 - rate * u.decay) * m * f.tensor(moved) / length(f, moved_squares));
  f.emit();
}

}  // namespace

const Optimizer kGradNormLorp = {.name = "grad_norm_lorp",
                                 .summary = "AdamW on lengths and projected directions of a matrix's rows",
                                 .paper = "arXiv:2412.19616",
                                 .learning_rate = 2e-3,
                                 .options = kOptions,
                                 .states = states,
                                 .hooks = {.apply = apply},
                                 .periods = kBasisPeriods};

}  // namespace thimble
