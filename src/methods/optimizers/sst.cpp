// SST, sparse spectral training: of a matrix all singular values train, and a few singular vectors at a time, drawn in
// proportion to their values.
//
//   Paper   Zhao et al. 2024, arXiv:2405.15481, Algorithm 1; the gradient of vectors without their value ("enhanced"),
//           section 4.2
//   Update  every `interval` steps W = U S V, and a set I of r vectors is drawn, without replacement, p_i = s_i / sum s
//           s_i <- s_i - lr Adam(u_i^T G v_i) for all i;  of I, u_i <- u_i - lr Adam(G v_i), v_i <- v_i - lr Adam(G^T
//           u_i), both of length 1 again;  W <- (1 - lr wd) U S V
//   State   of a matrix of the blocks [m, n], k = min(m, n): u and v of I and Adam's of them, 3 r (m + n); S of I and
//           Adam's of all values, 2 k + r; the other vectors (k - r)(m + n) in bf16; AdamW's for the rest
//   Choice  W itself is kept and moves by what the product changes, so that it is a model's weight like any other, and
//           the vectors that rest are only directions. Every draw comes with a decomposition, where the paper draws
//           several times between two; Adam's moments begin anew with it. A value may fall below 0: its vector then
//           turns round with the next decomposition. The norm that is clipped is that of what is held of the gradient
#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 0, 0, 65536, "singular vectors that train at a time; 0: an eighth of the smaller side"),
    whole_number("interval", 200, 1, 1'000'000'000, "steps from one draw, with its decomposition, to the next"),
    kAdamOptions[0],
    kAdamOptions[1],
    kAdamOptions[2],
};
constexpr std::string_view kDraw = "draw";
constexpr Period kPeriods[] = {
    {kDraw, [](const OptionValues& options) { return static_cast<int64_t>(options["interval"]); }}};
// Added before a matrix is decomposed, so that one of lower rank, as adapters begin, has vectors all the same.
constexpr double kDust = 1e-9;

// U, V [r, m], [r, n]: the vectors that train, a row each.
enum State : size_t { kUM, kUV, kVM, kVV, kValueM, kValueV, kRestM, kRestV, kU, kV, kValues, kLeft, kRight };

// Of W [m, n]: r vectors that train, and `rest` that do not.
struct Extents {
  int64_t m, n, r, rest;
  Extents(const Parameter& p, const OptionValues& options) : m(p.shape[0]), n(p.shape[1]) {
    const int64_t side = std::min(m, n), asked = static_cast<int64_t>(options["rank"]);
    r = std::clamp<int64_t>(asked > 0 ? asked : side / 8, 1, side - 1), rest = side - r;
  }
};
bool decomposes(const Parameter& p) { return p.is_hidden_matrix() && std::min(p.shape[0], p.shape[1]) > 1; }

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  if (!decomposes(parameter)) return adam_states(parameter.shape);
  const Extents e(parameter, options);
  const Shape u{e.r, e.m}, v{e.r, e.n}, values{e.r}, rest{e.rest};
  const auto every = static_cast<int64_t>(options["interval"]);
  std::vector<StateSpec> out;
  for (const auto& [m, s, shape] :
       {std::tuple{"u_m", "u_v", u}, {"v_m", "v_v", v}, {"value_m", "value_v", values}, {"rest_m", "rest_v", rest}}) {
    out.push_back({.name = m, .shape = shape, .reset_every = every});
    out.push_back({.name = s, .shape = shape, .reset_every = every, .squares = true});
  }
  for (const auto& [name, shape] : {std::pair{"u", u}, {"v", v}, {"values", values}})
    out.push_back({.name = name, .shape = shape, .any_codec = false});
  for (const auto& [name, shape] : {std::pair{"left", Shape{e.m, e.rest}}, {"right", Shape{e.rest, e.n}}})
    out.push_back({.name = name, .shape = shape, .codec = &kBf16, .any_codec = false});
  return out;
}

// Rows: gradients of u_i and of v_i side by side, then one of the values that rest.
Shape accumulator(const Parameter& parameter, const OptionValues& options) {
  if (!decomposes(parameter)) return {};
  const Extents e(parameter, options);
  return {e.r + 1, e.m + e.n};
}

using Axis = SliceAttributes::Axis;
std::string named(const Update& u, const char* name) { return fmt::format("{}.{}", name, u.name()); }
ValueId part(Update& u, ValueId x, Axis axis, int64_t begin, int64_t count, const char* name) {
  return u.graph.emit(kSlice, SliceAttributes{axis, begin, count}, {x}, named(u, name));
}
// x at (row, column) of what is accumulated, zeros elsewhere.
ValueId placed(Update& u, const Extents& e, ValueId x, int64_t row, int64_t column, const char* name) {
  const Shape shape = u.graph.value(x).type.shape;
  const ValueId wide =
      u.graph.emit(kPad, SliceAttributes{Axis::columns, column, shape[1], e.m + e.n}, {x}, named(u, name));
  return u.graph.emit(kPad, SliceAttributes{Axis::rows, row, shape[0], e.r + 1}, {wide}, named(u, name));
}
// A new value by one expression.
template <class Make>
ValueId made(Update& u, const char* name, Make make) {
  ValueId out = kNone;
  Fused f(u.graph, named(u, name));
  f.output(out, make(f));
  f.emit();
  return out;
}
ValueId rows_by(Update& u, ValueId rows, ValueId by, const char* name) {
  return made(u, name, [&](Fused& f) {
    const Expr x = f.tensor(rows), factor = f.column(by);
    return x * factor;
  });
}
ValueId multiplied(Update& u, ValueId a, ValueId b, const char* name) {
  return made(u, name, [&](Fused& f) {
    const Expr x = f.tensor(a), y = f.tensor(b);
    return x * y;
  });
}
// Rows divided by their lengths, which are left in *lengths where it is asked for.
ValueId unit(Update& u, ValueId rows, const char* name, ValueId* lengths = nullptr) {
  const ValueId squares = reduce(u.graph, rows, Reduce::squares, ReduceOver::columns, named(u, "lengths"));
  if (lengths) *lengths = made(u, "values_drawn", [&](Fused& f) { return sqrt(f.tensor(squares)); });
  return made(u, name, [&](Fused& f) {
    const Expr x = f.tensor(rows), length = sqrt(f.column(squares));
    return x / (length + 1e-30);
  });
}
ValueId stepped(Update& u, size_t state, ValueId gradient, size_t moments, const char* name) {
  const ValueId direction = adam_direction(u, gradient, moments);
  return made(u, name, [&](Fused& f) {
    const Expr x = f.tensor(u.states[state]), d = f.tensor(direction);
    return x - f.scalar(u.learning_rate) * d;
  });
}

// The order in which vectors are drawn by their values [k]: the largest of log s + Gumbel noise are draws without
// replacement (Kool et al. 2019, arXiv:1903.06059).
ValueId drawn_order(Update& u, ValueId values, int64_t count) {
  const ValueId keys = made(u, "keys", [&](Fused& f) {
    const Expr s = f.tensor(values), uniform = f.builder().uniform_noise(name_hash("sst." + u.name()));
    return log(max(s, 1e-30)) - log(max(-1 * log(max(uniform, 1e-12)), 1e-12));
  });
  const bool order_only[] = {false, true};
  return u.graph.emit_all(kTopK, TopKAttributes{count}, {keys}, named(u, "order"), order_only)[1];
}

void draw(Update& u, const Extents& e) {
  const ValueId a = made(u, "dusted", [&](Fused& f) {
    const Expr w = f.tensor(u.parameter);
    return w + kDust * f.builder().normal_noise(name_hash("sst.dust." + u.name()));
  });
  const std::vector<ValueId> usv = u.graph.emit_all(kSvd, SvdAttributes{e.r + e.rest}, {a}, named(u, "svd"));
  const ValueId order = drawn_order(u, usv[1], e.r + e.rest);
  constexpr GatherAttributes kRows{}, kColumns{.axis = GatherAttributes::Axis::columns};
  const ValueId left = u.graph.emit(kGather, kColumns, {usv[0], order}, named(u, "left_drawn"));
  const ValueId right = u.graph.emit(kGather, kRows, {usv[2], order}, named(u, "right_drawn"));
  const ValueId v = part(u, right, Axis::rows, 0, e.r, "drawn_v");
  ValueId values = kNone;
  const ValueId drawn = unit(u, product_transposed(u.graph, v, a, named(u, "drawn_us")), "drawn_u", &values);
  store_over(u, kU, drawn), store_over(u, kV, v), store_over(u, kValues, values);
  store_over(u, kLeft, part(u, left, Axis::columns, e.r, e.rest, "left_rest"));
  store_over(u, kRight, part(u, right, Axis::rows, e.r, e.rest, "right_rest"));
}

ValueId absorb(Update& u) {
  const Extents e(u.trained, u.options);
  Graph& g = u.graph;
  if (u.is_due(kDraw)) draw(u, e);
  const ValueId of_u = product_transposed(g, u.states[kV], u.gradient, named(u, "gradient_u"));
  const ValueId of_v = product(g, u.states[kU], u.gradient, named(u, "gradient_v"));
  const ValueId seen = product_transposed(g, u.gradient, u.states[kRight], named(u, "seen"));
  const ValueId along = multiplied(u, u.states[kLeft], seen, "along");
  const ValueId ones = made(u, "ones", [&](Fused& f) {
    f.builder().shape({e.m, 1});
    return f.constant(1);
  });
  const ValueId of_rest = inner(g, ones, along, named(u, "gradient_rest"));
  const ValueId parts[] = {placed(u, e, of_u, 0, 0, "part_u"), placed(u, e, of_v, 0, e.m, "part_v"),
                           placed(u, e, of_rest, e.r, 0, "part_rest")};
  Fused sum(g, named(u, "absorbed"));
  Expr all = sum.tensor(u.accumulator);
  for (const ValueId each : parts) all = all + sum.tensor(each);
  sum.store(u.accumulator, all);
  sum.emit();
  return u.accumulator;
}

void apply(Update& u) {
  if (!decomposes(u.trained)) return apply_adamw(u);
  const Extents e(u.trained, u.options);
  Graph& g = u.graph;
  const double interval = u.options["interval"];
  u.step = made(u, "since_draw", [&](Fused& f) {
    const Expr step = f.tensor(u.step);
    return step - interval * floor((step - 1) / interval);
  });
  const ValueId gradient = clipped_gradient(u);
  const ValueId both = part(u, gradient, Axis::rows, 0, e.r, "of_vectors");
  const ValueId of_u = part(u, both, Axis::columns, 0, e.m, "of_u");
  const ValueId of_v = part(u, both, Axis::columns, e.m, e.n, "of_v");
  const ValueId of_values = reduce(g, multiplied(u, of_v, u.states[kV], "of_values"), Reduce::sum, ReduceOver::columns,
                                   named(u, "gradient_values"));
  const ValueId last = part(u, part(u, gradient, Axis::rows, e.r, 1, "last"), Axis::columns, 0, e.rest, "of_rest");
  const ValueId rest =
      adam_direction(u, reduce(g, last, Reduce::sum, ReduceOver::rows, named(u, "gradient_rest_sum")), kRestM);
  const ValueId next_u = unit(u, stepped(u, kU, of_u, kUM, "stepped_u"), "next_u");
  const ValueId next_v = unit(u, stepped(u, kV, of_v, kVM, "stepped_v"), "next_v");
  const ValueId values = stepped(u, kValues, of_values, kValueM, "next_values");
  // What the product changes: by the drawn vectors as a whole, by the others in their values.
  const ValueId after = inner(g, rows_by(u, next_u, values, "after_us"), next_v, named(u, "after"));
  const ValueId before = rows_by(u, u.states[kU], u.states[kValues], "before_us");
  const ValueId change = g.emit(kLinearDw, ScaleAttributes{-1}, {after, before, u.states[kV]}, named(u, "change"));
  const ValueId turned = made(u, "rest_us", [&](Fused& f) {
    const Expr left = f.tensor(u.states[kLeft]), by = f.row(rest);
    return left * by;
  });
  const ValueId of_others = product(g, turned, u.states[kRight], named(u, "others"));
  Fused f(g, named(u, "update"));
  const Expr w = f.tensor(u.parameter), drawn = f.tensor(change), others = f.tensor(of_others);
  const Expr rate = f.scalar(u.learning_rate);
  f.store(u.parameter, (w + drawn - rate * others) * (1 - rate * u.decay));
  f.emit();
  store_over(u, kValues, made(u, "values_after", [&](Fused& s) {
               const Expr now = s.tensor(values);
               return now * (1 - s.scalar(u.learning_rate) * u.decay);
             }));
  store_over(u, kU, next_u), store_over(u, kV, next_v);
}

}  // namespace

const Optimizer kSst = {.name = "sst",
                        .summary = "all singular values of a matrix, and a few singular vectors drawn by them",
                        .paper = "arXiv:2405.15481",
                        .learning_rate = 2e-3,
                        .options = kOptions,
                        .states = states,
                        .accumulator = accumulator,
                        .hooks = {.absorb = absorb, .apply = apply},
                        .periods = kPeriods};

}  // namespace thimble
