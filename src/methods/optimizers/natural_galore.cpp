// Natural GaLore: GaLore whose projected gradient is divided by the Fisher information of the last few.
//
//   Paper   Das et al. 2024, arXiv:2410.16029, section 3 and Algorithm 1
//   Update  every `interval` steps P <- the r largest singular vectors of G's smaller side;  g = P^T G as a vector
//           H <- the last s of them, g among these;  g <- (g - H^T (lambda I + H H^T)^-1 H g) / lambda
//           p <- p - lr (scale P Adam(g) + wd p)
//   State   of a matrix of the blocks [m, n], m <= n: P [m, r], Adam's m, v [r, n] and the history [s, r n]; AdamW's
//           for the rest
//   Choice  Woodbury's identity as in the authors' code (github.com/selfsupervised-ai/Natural-GaLore), with the s x s
//           system solved by its eigenvectors. P by a randomised method; the history is kept when P changes, as there
#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/projection.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    kBasisOptions[0],
    kBasisOptions[1],
    {"scale", 0.25, 0, 1000, "of the step in the projected directions"},
    kBasisOptions[2],
    whole_number("history", 20, 1, 1000, "gradients that make the Fisher information"),
    {"damping", 1e-3, 1e-9, 1e6, "lambda, added to it"},
    kAdamOptions[0],
    kAdamOptions[1],
    {"epsilon", 1e-6, 0, 1, "added to the root"},
};

enum State : size_t { kM, kV, kBasis, kHistory };

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  if (!parameter.is_hidden_matrix()) return adam_states(parameter.shape);
  const Projection p(parameter, options);
  std::vector<StateSpec> out = basis_states(p);
  out.push_back(
      {.name = "history", .shape = {static_cast<int64_t>(options["history"]), p.low().count()}, .any_codec = false});
  return out;
}

// x with its elements in other rows.
ValueId lying(Graph& g, ValueId x, const Shape& shape, const std::string& name) {
  Fused f(g, name);
  f.builder().shape(shape);
  ValueId out = kNone;
  f.output(out, 1 * f.tensor(x));
  f.emit();
  return out;
}

// The newest is the last row; before there are enough, rows of zeros count for nothing.
void remember(Update& u, ValueId row) {
  Graph& g = u.graph;
  const int64_t count = static_cast<int64_t>(u.options["history"]);
  const ValueId newest =
      g.emit(kPad, SliceAttributes{SliceAttributes::Axis::rows, count - 1, 1, count}, {row}, "newest." + u.name());
  if (count == 1) return store_over(u, kHistory, newest);
  const ValueId kept = g.emit(kSlice, SliceAttributes{SliceAttributes::Axis::rows, 1, count - 1}, {u.states[kHistory]},
                              "kept." + u.name());
  const ValueId older =
      g.emit(kPad, SliceAttributes{SliceAttributes::Axis::rows, 0, count - 1, count}, {kept}, "older." + u.name());
  Fused f(g, "history." + u.name());
  (void)f.tensor(u.states[kHistory]);
  const Expr before = f.tensor(older), now = f.tensor(newest);
  f.store(u.states[kHistory], before + now);
  f.emit();
}

// (lambda I + H^T H)^-1 g for a row g of H, by the eigenvectors V and values d of H H^T:
// (g - H^T V diag(1 / (lambda + d)) V^T H g) / lambda.
ValueId natural(Update& u, ValueId row) {
  Graph& g = u.graph;
  const std::string name = "natural." + u.name();
  const double damping = u.options["damping"];
  const ValueId h = u.states[kHistory];
  const auto solved = g.emit_all(kEigh, {}, {product_transposed(g, h, h, name + ".gram")}, name + ".eigh");
  const ValueId along = product(g, product_transposed(g, row, h, name + ".along"), solved[1], name + ".turned");
  ValueId divided = kNone;
  {
    Fused f(g, name + ".divided");
    const Expr x = f.tensor(along), d = f.row(solved[0]);
    f.output(divided, x / (damping + max(d, 0)));
    f.emit();
  }
  const ValueId back = product(g, product_transposed(g, divided, solved[1], name + ".back"), h, name + ".inside");
  ValueId out = kNone;
  Fused f(g, name);
  const Expr x = f.tensor(row), inside = f.tensor(back);
  f.output(out, (x - inside) / damping);
  f.emit();
  return out;
}

void apply(Update& u) {
  if (!u.trained.is_hidden_matrix()) return apply_adamw(u);
  const Projection p(u.trained, u.options);
  const ValueId g = clipped_gradient(u);
  renew_basis(u, p, kBasis, g, "natural_galore");
  const ValueId low = p.project(u.graph, g, u.states[kBasis], "low." + u.name());
  const ValueId row = lying(u.graph, low, {1, p.low().count()}, "row." + u.name());
  remember(u, row);
  const ValueId turned = lying(u.graph, natural(u, row), p.low(), "matrix." + u.name());
  const ValueId direction = p.back(u.graph, adam_direction(u, turned), u.states[kBasis], "back." + u.name());
  Fused f(u.graph, "update." + u.name());
  const Expr parameter = f.tensor(u.parameter), d = f.tensor(direction), rate = f.scalar(u.learning_rate);
  f.store(u.parameter, parameter * (1 - rate * u.decay) - u.options["scale"] * rate * d);
  f.emit();
}

}  // namespace

const Optimizer kNaturalGalore = {
    .name = "natural_galore",
    .summary = "GaLore whose gradient is divided by the Fisher information of the last few",
    .paper = "arXiv:2410.16029",
    .learning_rate = 2e-3,
    .options = kOptions,
    .states = states,
    .hooks = {.apply = apply},
    .periods = kBasisPeriods};

}  // namespace thimble
