// MixPHM: adapters behind FFNs whose weights are sums of Kronecker products with factors of low rank; of several
// experts one trains at a step, drawn by chance, and the average of their weights is used.
//
//   Paper   Jiang and Zheng 2023, arXiv:2303.01239, sections 3.2 and 3.3; the authors' code (jingjing12110/MixPHM)
//   Graph   y = f + s (U gelu(D f + b) + c), f what the layer makes; D and U are sum over i < n of A_i (x) (L_i R_i)
//           In training L, R and c of U are those of expert e, drawn for the step; else the means over experts
//   Adds    A [n n, n], normal 0.01, one for all layers and experts; of D: L [m / n, n rank], R [n rank, width / n], b
//           [m], one for all experts, m = width / reduction; of U by experts L [width / n, n rank], R [n rank, m / n],
//           c. L and R are uniform in +-sqrt(12 / (rows + columns)), the same in all experts; b and c zeros
//   Trains  with a loss of what an adapter repeats of its layer
//   Emits   as kronecker.h says
//   Names   "mixphm.A", "<module>.mixphm_down_L" and so on, "mixphm_up_L.0" of the first expert; peft_type MIXPHM,
//           which other tools do not read
//   Choice  experts that are not drawn have gradients of zero, which the optimizer's moments move on by. The loss is of
//           granules of tokens, where theirs is of a batch; their second, which aligns what an adapter makes with the
//           mean of a sentence, is not here
#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "methods/rewrites/kronecker.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("reduction", 12, 1, 4096, "adapters are so many times as narrow as the layer"),
    whole_number("rank", 8, 1, 4096, "of the factors"),
    whole_number("products", 4, 1, 8, "n: Kronecker products in a sum, which divides the width"),
    whole_number("experts", 4, 1, 16, "of an adapter"),
    {"dropout", 0, 0, 0.99, "of what U multiplies, in training"},
    {"redundancy", 0.2, 0, 1e3, "weight of the loss of what the adapter repeats of the layer; 0: none"},
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"reduction_factor", "reduction", Kind::whole, {}, 12},
                                 {"phm_rank", "rank", Kind::whole, {}, 8},
                                 {"hypercomplex_division", "products", Kind::whole, {}, 4},
                                 {"num_experts", "experts", Kind::whole, {}, 4},
                                 {"dropout", "dropout", Kind::number},
                                 {"red_w", "redundancy", Kind::number, {}, 0.2}};
constexpr double kRedundancy = 3.9e-3;  // of the authors' code
constexpr double kLeast = 0.01;         // of the length of f

int64_t whole(const ModuleRewrite& m, std::string_view option) { return static_cast<int64_t>(m.option(option)); }

// L and R of a weight [out, in].
struct Factors {
  ValueId left, right;
};

// sum over i of A_i (x) (L_i R_i), f32 [out, in].
ValueId kronecker_sum(ModuleRewrite& m, int64_t out, int64_t in, const Factors& factors, const std::string& name) {
  using Axis = SliceAttributes::Axis;
  const int64_t n = whole(m, "products"), rank = whole(m, "rank"), rows = out / n, columns = in / n;
  const ValueId a = m.add("mixphm.A", {n * n, n}, Initial::normal(0.01f), {.shared = true});
  const ValueId left = multiplied(m, selection(m, out, rows, 1), factors.left, false, name + ".left");
  PointwiseBuilder sum;
  std::vector<ValueId> in_sum;
  std::optional<Expr> all;
  for (int64_t i = 0; i < n; ++i) {
    const std::string part = fmt::format("{}.{}", name, i);
    const auto slice = [&](ValueId of, Axis axis, int64_t count, const char* what) {
      return m.graph.emit(kSlice, SliceAttributes{axis, i * count, count}, {of}, part + what);
    };
    const ValueId own = slice(a, Axis::rows, n, ".A");
    const ValueId spread = multiplied(m, multiplied(m, selection(m, out, n, rows), own, false, part + ".A_rows"),
                                      selection(m, in, n, columns), true, part + ".A_spread");
    const ValueId product = multiplied(m, slice(left, Axis::columns, rank, ".L"),
                                       slice(factors.right, Axis::rows, rank, ".R"), false, part + ".B");
    in_sum.insert(in_sum.end(),
                  {spread, multiplied(m, product, selection(m, in, columns, 1), true, part + ".B_spread")});
    const Expr x = sum.tensor(), y = sum.tensor();
    all = all ? *all + x * y : x * y;
  }
  sum.output(*all);
  return m.graph.emit(kPointwise, sum.attributes(), in_sum, name);
}

Initial glorot(int64_t rows, int64_t columns) {
  return Initial::uniform(std::sqrt(12.0f / static_cast<float>(rows + columns)));
}

// In training the value of the expert that is drawn for the step, else the mean of all. They begin as one, or the mean
// of their L times the mean of their R would have little of their products.
ValueId of_experts(ModuleRewrite& m, const std::string& suffix, const Shape& shape, Initial initial) {
  const int64_t experts = whole(m, "experts");
  initial.content = m.name(suffix);
  std::vector<ValueId> in;
  PointwiseBuilder b;
  std::vector<Expr> values;
  for (int64_t e = 0; e < experts; ++e) {
    in.push_back(m.add(fmt::format("{}.{}", suffix, e), shape, initial));
    values.push_back(b.tensor());
  }
  if (experts == 1) return in.front();
  const auto count = static_cast<double>(experts);
  Expr sum = b.constant(0);
  if (m.training) {
    in.push_back(m.once("mixphm_drawn", [&] {
      PointwiseBuilder draw;
      draw.shape({1});
      draw.output(floor(draw.uniform_noise(name_hash(m.name("mixphm"))) * count));
      return m.graph.emit(kPointwise, draw.attributes(), {}, m.name("mixphm_drawn"));
    }));
    const Expr drawn = b.scalar();
    for (int64_t e = 0; e < experts; ++e) {
      const auto at = static_cast<double>(e);
      sum = sum + values[static_cast<size_t>(e)] * (greater(drawn, at - 0.5) - greater(drawn, at + 0.5));
    }
  } else {
    for (const Expr& value : values) sum = sum + value * (1 / count);
  }
  b.output(sum);
  return m.graph.emit(kPointwise, b.attributes(), in, m.name(suffix));
}

// Every token's part of sum over i != j of C_ij^2, C = sum of u v^T over a granule of tokens, v = f / |f|, u likewise
// of what the adapter makes: with U = off_diagonal(u, v, v), the tokens' sum of u U. What is far smaller than f counts
// as less than 1, or the gradient of its direction would have no bound.
void add_redundancy(ModuleRewrite& m, ValueId moved, ValueId f) {
  if (!m.training || m.option("redundancy") == 0) return;
  const auto squares = [&](ValueId x, const char* name) {
    return m.graph.emit(kReduce, ReduceAttributes{.kind = Reduce::squares}, {x}, m.name(name));
  };
  const ValueId of_f = squares(f, "mixphm_f_squares"), of_moved = squares(moved, "mixphm_moved_squares");
  PointwiseBuilder unit, own;
  const Expr of_layer = unit.tensor(), size = unit.column();
  unit.output(of_layer / sqrt(size + 1e-12));
  const ValueId v = m.graph.emit(kPointwise, unit.attributes(), {f, of_f}, m.name("mixphm_v"));
  const Expr of_adapter = own.tensor(), own_size = own.column(), least = own.column();
  own.output(of_adapter / sqrt(own_size + kLeast * kLeast * least + 1e-12));
  const ValueId u = m.graph.emit(kPointwise, own.attributes(), {moved, of_moved, of_f}, m.name("mixphm_u"));
  const ValueId through = m.graph.emit(kOffDiagonal, {}, {u, v, v}, m.name("mixphm_common"));
  PointwiseBuilder b;
  const Expr x = b.tensor(), common = b.tensor();
  b.output(x * common * (kRedundancy * m.option("redundancy") / static_cast<double>(m.module.layers)));
  const ValueId each = m.graph.emit(kPointwise, b.attributes(), {u, through}, m.name("mixphm_redundancy.products"));
  m.add_loss(m.graph.emit(kReduce, ReduceAttributes{}, {each}, m.name("mixphm_redundancy")));
}

void adapt(ModuleRewrite& m) {
  const int64_t width = m.out, n = whole(m, "products"), rank = whole(m, "rank");
  const int64_t narrow = std::max<int64_t>(1, width / whole(m, "reduction") / n) * n;
  const Initial zero = Initial::constant(0);
  const LinearAttributes product{.codec = m.attributes.codec, .narrow = m.attributes.narrow};
  const ValueId f = m.linear(m.x, m.w, {}, m.bias, kNone, m.module.name + ".mixphm_f");
  const Factors down{m.add("mixphm_down_L", {narrow / n, n * rank}, glorot(narrow / n, rank)),
                     m.add("mixphm_down_R", {n * rank, width / n}, glorot(rank, width / n))};
  const ValueId d = kronecker_sum(m, narrow, width, down, m.name("mixphm_down"));
  const ValueId low =
      m.graph.emit(kLinear, product, {f, d, m.add("mixphm_down_b", {narrow}, zero), kNone}, m.name("mixphm_low"));
  ValueId z =
      m.graph.emit(kActivation, ActivationAttributes{Activation::gelu_tanh}, {low, kNone}, m.name("mixphm_act"));
  if (m.option("dropout") > 0 && m.training)
    z = m.graph.emit(kDropout, DropoutAttributes{m.option("dropout"), name_hash(m.name("mixphm_dropout"))}, {z},
                     m.name("mixphm_dropout"));
  const Factors up{of_experts(m, "mixphm_up_L", {width / n, n * rank}, glorot(width / n, rank)),
                   of_experts(m, "mixphm_up_R", {n * rank, narrow / n}, glorot(rank, narrow / n))};
  const ValueId u = kronecker_sum(m, width, narrow, up, m.name("mixphm_up"));
  const ValueId moved = m.graph.emit(kLinear, product, {z, u, of_experts(m, "mixphm_up_c", {width}, zero), kNone},
                                     m.name("mixphm_moved"));
  add_redundancy(m, moved, f);
  PointwiseBuilder b;
  std::vector<ValueId> in{f, moved};
  const Expr own = b.tensor(), by = b.tensor();
  Expr y = own + m.module.scale * by;
  if (m.addend != kNone) {
    in.push_back(m.addend);
    y = y + b.tensor();
  }
  b.output(y, m.attributes.codec);
  m.y = m.graph.emit(kPointwise, b.attributes(), in, m.module.name);
}

Result<void> check(const OptionValues& options, int64_t, int64_t out) {
  if (options["reduction"] > static_cast<double>(out))
    return fail(ErrorCode::invalid_argument, "reduction={}: the layer makes {} numbers; give at most that",
                options["reduction"], out);
  const auto n = static_cast<int64_t>(options["products"]);
  if (out % n == 0) return {};
  return fail(ErrorCode::invalid_argument, "products={}: the layer makes {} numbers, which {} does not divide", n, out,
              n);
}

}  // namespace

const Rewrite kMixphm = {.name = "mixphm",
                         .summary = "adapters behind FFNs, of sums of Kronecker products, one of several at a step",
                         .paper = "arXiv:2303.01239",
                         .rate = 25,
                         .options = kOptions,
                         .adapt = adapt,
                         .targets = "down_proj,fc2",
                         .scales = true,
                         .by_rows = false,
                         .not_merged = "puts an adapter with an activation behind a layer, which no weights come to",
                         .check = check,
                         .form = {.type = "MIXPHM", .fields = kFields}};

}  // namespace thimble
