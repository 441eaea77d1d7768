// COSMOS: SOAP's step in the few directions in which the gradients of a matrix are largest, Muon's in all others.
//
//   Paper   Liu et al. 2025, arXiv:2502.17410, Algorithm 1
//   Update  m <- b1 m + (1-b1) G;  P <- QR(b3 P S + (1-b3) G G^T P), C = P_before^T P,
//           S <- b3 C^T S C + (1-b3) (G^T P)^T G^T P;  v <- b2 v + (1-b2) (P^T G)^2
//           A = P ((P^T m) / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps);  B = m - P P^T m, made nearly orthogonal
//           D = A + ratio sqrt(mn) B / |B|;  p <- p - lr wd p - lr ratio sqrt(mn) D / |D|
//   State   of a matrix of the blocks [m, n], m <= n, at rank r: m [m, n]; P [m, r]; S [r, r]; v [r, n]; AdamW's for
//           the rest
//   Choice  the smaller side is projected, whichever it is. P begins with the largest singular vectors of the first
//           gradient, by a randomised method. The authors' code (github.com/lliu606/COSMOS) computes P and S anew and
//           does not store them; here both are carried on, as the algorithm says
#include <cmath>

#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/projection.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 64, 0, 65536, "directions that move as with SOAP; 0: a quarter of the smaller side"),
    {"ratio", 0.1, 1e-6, 1000, "rate of the matrices of the blocks, as a part of the learning rate"},
    {"beta1", 0.9, 0, 0.999999, "decay of the mean of gradients"},
    {"beta2", 0.96, 0, 0.9999999, "decay of the mean of squared gradients"},
    {"beta3", 0.96, 0, 0.9999999, "decay of the covariance in the directions"},
    {"epsilon", 1e-8, 0, 1, "added to the root"},
    whole_number("iterations", 4, 0, 1000, "of the power method that finds the first directions"),
};
constexpr int kNewtonSchulz = 5;

enum State : size_t { kM, kV, kBasis, kCovariance };

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  if (!parameter.is_hidden_matrix()) return adam_states(parameter.shape);
  const Projection p(parameter, options);
  return {{.name = "m", .shape = parameter.shape, .any_codec = false},
          {.name = "v", .shape = p.low(), .squares = true},
          {.name = "basis", .shape = p.basis(), .any_codec = false},
          {.name = "covariance", .shape = {p.rank(), p.rank()}, .any_codec = false}};
}

// state <- a x + b y, or x alone where y is kNone.
void mix(Update& u, size_t state, double a, ValueId x, double b, ValueId y) {
  Fused f(u.graph, "mixed." + u.name());
  (void)f.tensor(u.states[state]);
  const Expr first = a * f.tensor(x);
  f.store(u.states[state], y == kNone ? first : first + b * f.tensor(y));
  f.emit();
}

void turn_basis(Update& u, const Projection& p, ValueId g) {
  Graph& graph = u.graph;
  const double b3 = u.options["beta3"];
  const std::string name = "basis." + u.name();
  if (u.is_due("first")) {
    mix(u, kBasis, 1,
        p.dominant(graph, g, name_hash("cosmos." + u.name()), static_cast<int>(u.options["iterations"]), name), 0,
        kNone);
    const ValueId seen = p.to_other(graph, g, u.states[kBasis], name + ".seen");
    return mix(u, kCovariance, 1 - b3, inner(graph, seen, seen, name + ".covariance"), 0, kNone);
  }
  const ValueId carried = product(graph, u.states[kBasis], u.states[kCovariance], name + ".carried");
  const ValueId grown = p.to_side(graph, g, p.to_other(graph, g, u.states[kBasis], name + ".seen"), name + ".grown");
  ValueId sum = kNone;
  {
    Fused f(graph, name + ".sum");
    const Expr before = f.tensor(carried), now = f.tensor(grown);
    f.output(sum, b3 * before + (1 - b3) * now);
    f.emit();
  }
  const ValueId next = orthonormal(graph, sum, name);
  const ValueId turn = inner(graph, u.states[kBasis], next, name + ".turn");
  mix(u, kBasis, 1, next, 0, kNone);
  const ValueId seen = p.to_other(graph, g, u.states[kBasis], name + ".seen");
  const ValueId turned =
      inner(graph, turn, product(graph, u.states[kCovariance], turn, name + ".half"), name + ".turned");
  mix(u, kCovariance, b3, turned, 1 - b3, inner(graph, seen, seen, name + ".covariance"));
}

// m and v take the gradient in; returns A. `low` becomes P^T m.
ValueId adaptive_part(Update& u, const Projection& p, ValueId g, ValueId& low) {
  const double b1 = u.options["beta1"], b2 = u.options["beta2"];
  mix(u, kM, b1, u.states[kM], 1 - b1, g);
  const ValueId seen = p.project(u.graph, g, u.states[kBasis], "seen." + u.name());
  low = p.project(u.graph, u.states[kM], u.states[kBasis], "low." + u.name());
  ValueId direction = kNone;
  {
    Fused f(u.graph, "direction." + u.name());
    const Expr before = UpdateExpr::read_state(f, u, kV), now = f.tensor(seen), t = f.scalar(u.step);
    const Expr v = b2 * before + (1 - b2) * (now * now);
    UpdateExpr::store_state(f, u, kV, v);
    const Expr root = sqrt(v) / sqrt(1 - pow(b2, t)) + u.options["epsilon"];
    f.output(direction, f.tensor(low) / ((1 - pow(b1, t)) * root));
    f.emit();
  }
  return p.back(u.graph, direction, u.states[kBasis], "adaptive." + u.name());
}

// B before it is divided by its length.
ValueId remaining_part(Update& u, const Projection& p, ValueId low) {
  const ValueId kept = p.back(u.graph, low, u.states[kBasis], "kept." + u.name());
  ValueId rest = kNone;
  {
    Fused f(u.graph, "rest." + u.name());
    const Expr m = f.tensor(u.states[kM]), inside = f.tensor(kept);
    f.output(rest, m - inside);
    f.emit();
  }
  return nearly_orthogonal(u.graph, rest, kNewtonSchulz, u.name());
}

void apply(Update& u) {
  if (!u.trained.is_hidden_matrix()) return apply_adamw(u);
  const Projection p(u.trained, u.options);
  const ValueId g = clipped_gradient(u);
  turn_basis(u, p, g);
  ValueId low = kNone;
  const ValueId a = adaptive_part(u, p, g, low), b = remaining_part(u, p, low);
  const double size = u.options["ratio"] * std::sqrt(static_cast<double>(u.trained.shape.count()));
  const ValueId b_squares = squared_length(u.graph, b, "rest_length." + u.name());
  ValueId both = kNone;
  {
    Fused f(u.graph, "both." + u.name());
    const Expr adaptive = f.tensor(a), rest = f.tensor(b);
    f.output(both, adaptive + size * rest / (sqrt(f.scalar(b_squares)) + u.options["epsilon"]));
    f.emit();
  }
  const ValueId squares = squared_length(u.graph, both, "length." + u.name());
  Fused f(u.graph, "update." + u.name());
  const Expr parameter = f.tensor(u.parameter), d = f.tensor(both), rate = f.scalar(u.learning_rate);
  f.store(u.parameter,
          parameter * (1 - rate * u.decay) - size * rate * d / (sqrt(f.scalar(squares)) + u.options["epsilon"]));
  f.emit();
}

constexpr Period kPeriods[] = {{"first", [](const OptionValues&) { return kOnce; }}};

}  // namespace

const Optimizer kCosmos = {.name = "cosmos",
                           .summary = "SOAP where a matrix's gradients are largest, Muon for the rest of it",
                           .paper = "arXiv:2502.17410",
                           .learning_rate = 1e-3,
                           .options = kOptions,
                           .states = states,
                           .hooks = {.apply = apply},
                           .periods = kPeriods};

}  // namespace thimble
