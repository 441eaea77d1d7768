// Fira: GaLore, and what its projection leaves out as well, scaled as AdamW scales what it keeps.
//
//   Paper   Chen et al. 2024, arXiv:2410.01623, Algorithm 1
//   Update  every `interval` steps P <- the r largest singular vectors of G's smaller side;  R = P^T G, m, v Adam's of
//           R, N = m / (sqrt(v) + eps);  s_j = |N_j| / |R_j| by columns of R;  S = (G - P R) diag(s), shortened to 1.01
//           times the length of the step before;  p <- p - lr sqrt(1-b2^t) / (1-b1^t) scale (P N + S);  p <- p - lr wd
//           p
//   State   of a matrix of the blocks [m, n], m <= n: P [m, r], m and v [r, n] and one length; AdamW's for the rest
//   Choice  as the authors' code (github.com/xichen-fy/Fira), decay after the step; P by a randomised method
#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/projection.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    kBasisOptions[0], kBasisOptions[1], {"scale", 1, 0, 1000, "of the step of matrices"}, kBasisOptions[2],
    kAdamOptions[0],  kAdamOptions[1],  {"epsilon", 1e-6, 0, 1, "added to the root"},
};

enum State : size_t { kM, kV, kBasis, kLength };

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  if (!parameter.is_hidden_matrix()) return adam_states(parameter.shape);
  const Projection p(parameter, options);
  std::vector<StateSpec> out = basis_states(p);
  out.push_back({.name = "length", .shape = {1}, .any_codec = false});
  return out;
}

// What P leaves out of the gradient, scaled by columns (or rows, of a tall matrix) as N is to R.
ValueId remaining(Update& u, const Projection& p, ValueId g, ValueId low, ValueId n) {
  const ReduceOver over = p.wide() ? ReduceOver::rows : ReduceOver::columns;
  const ValueId after = reduce(u.graph, n, Reduce::squares, over, "after." + u.name());
  const ValueId before = reduce(u.graph, low, Reduce::squares, over, "before." + u.name());
  const ValueId kept = p.back(u.graph, low, u.states[kBasis], "kept." + u.name());
  ValueId out = kNone;
  Fused f(u.graph, "rest." + u.name());
  const Expr whole = f.tensor(g), inside = f.tensor(kept);
  const auto length = [&](ValueId squares) { return sqrt(p.wide() ? f.row(squares) : f.column(squares)); };
  const Expr of_n = length(after), of_low = length(before);
  f.output(out, (whole - inside) * (of_n / (of_low + 1e-8)));
  f.emit();
  return out;
}

void apply(Update& u) {
  if (!u.trained.is_hidden_matrix()) return apply_adamw(u);
  const Projection p(u.trained, u.options);
  const ValueId g = clipped_gradient(u);
  renew_basis(u, p, kBasis, g, "fira");
  const ValueId low = p.project(u.graph, g, u.states[kBasis], "low." + u.name());
  const ValueId n = adam_ratio(u, low);
  const ValueId rest = remaining(u, p, g, low, n);
  const ValueId back = p.back(u.graph, n, u.states[kBasis], "back." + u.name());
  const ValueId length = squared_length(u.graph, rest, "length." + u.name());
  {
    Fused f(u.graph, "update." + u.name());
    const Expr parameter = f.tensor(u.parameter), inside = f.tensor(back), outside = f.tensor(rest);
    const Expr rate = f.scalar(u.learning_rate), t = f.scalar(u.step);
    const Expr shorter = growth_limit(f.scalar(u.states[kLength]), sqrt(f.scalar(length)), t);
    const Expr size =
        u.options["scale"] * rate * sqrt(1 - pow(u.options["beta2"], t)) / (1 - pow(u.options["beta1"], t));
    f.store(u.parameter, (parameter - size * (inside + outside / shorter)) * (1 - rate * u.decay));
    f.emit();
  }
  Fused f(u.graph, "limited." + u.name());
  const Expr before = f.tensor(u.states[kLength]), now = sqrt(f.tensor(length)), t = f.tensor(u.step);
  f.store(u.states[kLength], now / growth_limit(before, now, t));
  f.emit();
}

}  // namespace

const Optimizer kFira = {.name = "fira",
                         .summary = "GaLore, and what its projection leaves out, scaled alike",
                         .paper = "arXiv:2410.01623",
                         .learning_rate = 2e-3,
                         .options = kOptions,
                         .states = states,
                         .hooks = {.apply = apply},
                         .periods = kBasisPeriods};

}  // namespace thimble
