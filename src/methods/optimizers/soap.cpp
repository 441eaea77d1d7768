// SOAP: AdamW in the eigenbasis of Shampoo's preconditioner, which follows the gradients' covariances slowly.
//
//   Paper   Vyas et al. 2024, arXiv:2409.11321, Algorithms 3 and 4
//   Update  m <- b1 m + (1-b1) G;  G' = Ql^T G Qr;  v <- b2 v + (1-b2) G'^2;  N = (Ql^T m Qr) / (sqrt(v) + eps)
//           p <- p - lr sqrt(1-b2^t) / (1-b1^t) Ql N Qr^T;  p <- p - lr wd p
//           L <- b3 L + (1-b3) G G^T, R <- b3 R + (1-b3) G^T G;  every `interval` steps Q <- QR(L Q), sorted
//   State   of a matrix of the blocks [m, n]: m, v [m, n]; L, Ql [m, m]; R, Qr [n, n]; AdamW's for the rest
//   Choice  as the authors' code (github.com/nikhilvyas/SOAP): the first step only makes L, R and their eigenvectors
//           and moves nothing; a side above `largest` is left as it is; b3 = b2
#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta1", 0.95, 0, 0.999999, "decay of the mean of gradients"},
    {"beta2", 0.95, 0, 0.9999999, "decay of the mean of squared gradients, and of their covariances"},
    {"epsilon", 1e-8, 0, 1, "added to the root"},
    whole_number("interval", 10, 1, 1'000'000'000, "steps from one basis to the next"),
    whole_number("largest", 10000, 0, 1'000'000, "side up to which a basis is kept"),
};

// A side of the matrix whose basis is kept: covariance and basis are states `state` and the one after it.
struct Side {
  bool rows;
  size_t state;
};

std::vector<Side> sides(const Parameter& parameter, const OptionValues& options) {
  std::vector<Side> out;
  for (int side : {0, 1})
    if (static_cast<double>(parameter.shape[side]) <= options["largest"])
      out.push_back({side == 0, 2 + 2 * out.size()});
  return out;
}

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  std::vector<StateSpec> out = adam_states(parameter.shape);
  if (!parameter.is_hidden_matrix()) return out;
  for (StateSpec& state : out) state.any_codec = false;
  for (const Side& side : sides(parameter, options)) {
    const int64_t extent = parameter.shape[side.rows ? 0 : 1];
    out.push_back({.name = side.rows ? "left" : "right", .shape = {extent, extent}, .any_codec = false});
    out.push_back({.name = side.rows ? "left_basis" : "right_basis", .shape = {extent, extent}, .any_codec = false});
  }
  return out;
}

ValueId to_basis(Update& u, ValueId x, const std::string& name) {
  for (const Side& side : sides(u.trained, u.options)) {
    const ValueId q = u.states[side.state + 1];
    x = side.rows ? inner(u.graph, q, x, name) : product(u.graph, x, q, name);
  }
  return x;
}

ValueId from_basis(Update& u, ValueId x, const std::string& name) {
  for (const Side& side : sides(u.trained, u.options)) {
    const ValueId q = u.states[side.state + 1];
    x = side.rows ? product(u.graph, q, x, name) : product_transposed(u.graph, x, q, name);
  }
  return x;
}

void take_covariance(Update& u, const Side& side, ValueId g) {
  const ValueId outer =
      side.rows ? product_transposed(u.graph, g, g, "outer." + u.name()) : inner(u.graph, g, g, "outer." + u.name());
  Fused f(u.graph, "covariance." + u.name());
  const double b = u.options["beta2"];
  const Expr before = f.tensor(u.states[side.state]), now = f.tensor(outer);
  f.store(u.states[side.state], b * before + (1 - b) * now);
  f.emit();
}

// One round of the power method. Directions are sorted by their size in the covariance, and v with them.
void turn_basis(Update& u, const Side& side) {
  Graph& g = u.graph;
  const std::string name = "basis." + u.name();
  const ValueId q = u.states[side.state + 1], grown = product(g, u.states[side.state], q, name + ".grown");
  ValueId along = kNone;
  {
    Fused f(g, name + ".along");
    const Expr before = f.tensor(q), after = f.tensor(grown);
    f.output(along, before * after);
    f.emit();
  }
  const ValueId sizes = reduce(g, along, Reduce::sum, ReduceOver::rows, name + ".sizes");
  const bool order_only[] = {false, true};
  const ValueId order =
      g.emit_all(kTopK, TopKAttributes{g.value(sizes).type.shape[0]}, {sizes}, name + ".order", order_only)[1];
  const GatherAttributes columns{.axis = GatherAttributes::Axis::columns};
  const GatherAttributes as_v = side.rows ? GatherAttributes{} : columns;
  store_over(u, 1, g.emit(kGather, as_v, {u.states[1], order}, name + ".v"));
  store_over(u, side.state + 1, orthonormal(g, g.emit(kGather, columns, {grown, order}, name + ".sorted"), name));
}

// The moments take the gradient in; returns the step in the eigenbasis.
ValueId direction_of(Update& u, ValueId g) {
  const double b1 = u.options["beta1"], b2 = u.options["beta2"];
  {
    Fused f(u.graph, "m." + u.name());
    const Expr m = f.tensor(u.states[0]), now = f.tensor(g);
    f.store(u.states[0], b1 * m + (1 - b1) * now);
    f.emit();
  }
  const ValueId turned = to_basis(u, g, "turned." + u.name()), mean = to_basis(u, u.states[0], "mean." + u.name());
  ValueId direction = kNone;
  Fused f(u.graph, "direction." + u.name());
  const Expr v = f.tensor(u.states[1]), now = f.tensor(turned);
  const Expr next = b2 * v + (1 - b2) * (now * now);
  f.store(u.states[1], next);
  f.output(direction, f.tensor(mean) / (sqrt(next) + u.options["epsilon"]));
  f.emit();
  return direction;
}

void apply(Update& u) {
  if (!u.trained.is_hidden_matrix()) return apply_adamw(u);
  const ValueId g = clipped_gradient(u);
  if (u.is_due("first")) {
    for (const Side& side : sides(u.trained, u.options)) {
      take_covariance(u, side, g);
      store_over(u, side.state + 1, eigenvectors(u.graph, u.states[side.state], "basis." + u.name()));
    }
    return;
  }
  const ValueId back = from_basis(u, direction_of(u, g), "back." + u.name());
  {
    Fused f(u.graph, "update." + u.name());
    const Expr p = f.tensor(u.parameter), d = f.tensor(back), rate = f.scalar(u.learning_rate);
    const Expr t = f.scalar(u.step) - 1;  // steps that moved
    const Expr size = rate * sqrt(1 - pow(u.options["beta2"], t)) / (1 - pow(u.options["beta1"], t));
    f.store(u.parameter, (p - size * d) * (1 - rate * u.decay));
    f.emit();
  }
  for (const Side& side : sides(u.trained, u.options)) {
    take_covariance(u, side, g);
    if (u.is_due("basis")) turn_basis(u, side);
  }
}

constexpr Period kPeriods[] = {
    {"first", [](const OptionValues&) { return kOnce; }},
    {"basis", [](const OptionValues& options) { return static_cast<int64_t>(options["interval"]); }}};

}  // namespace

const Optimizer kSoap = {.name = "soap",
                         .summary = "AdamW in the eigenbasis of the gradients' covariances",
                         .paper = "arXiv:2409.11321",
                         .learning_rate = 3e-3,
                         .options = kOptions,
                         .states = states,
                         .hooks = {.apply = apply},
                         .periods = kPeriods};

}  // namespace thimble
