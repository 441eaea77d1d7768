// linear: y = sum_i s_i x_i W_i^(T) + bias + addend, rounded once.
//
//   Gradient  dx_i = s_i dy W_i (or W_i^T);  dW_i = s_i dy^T x_i;  dbias = sum over rows of dy;  daddend = dy
//   Keeps     x_i, only where W_i is trained
//
// Several terms make LoRA (x W^T + s h B^T) and the gradient of a value that feeds several layers (dq Wq + dk Wk +
// dv Wv) one product with one rounding.
#include "kernels/gemm.h"
#include "kernels/narrow.h"
#include "ops/backward.h"
#include "ops/linear_parts.h"
#include "ops/pointwise.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {
namespace {

const LinearAttributes& of(const std::any& attributes) { return *std::any_cast<LinearAttributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  const LinearAttributes& attributes = of(any);
  const size_t terms = attributes.terms.size();
  if (terms == 0 || terms > kMostTerms)
    return fail(ErrorCode::shape, "linear: 1 to {} terms, found {}", kMostTerms, terms);
  CHECK_OK(expect_operands("linear", in, 2 * terms + 2));
  Type y{.codec = attributes.codec, .extent = in[0].extent};
  for (size_t i = 0; i < terms; ++i) {
    CHECK_OK(expect_rank("linear", "x", in[2 * i], 2));
    CHECK_OK(expect_rank("linear", "w", in[2 * i + 1], 2));
    const Shape& x = in[2 * i].shape;
    const Shape& w = in[2 * i + 1].shape;
    const bool transposed = attributes.terms[i].transposed;
    const Shape shape{x[0], transposed ? w[0] : w[1]};
    if (x[1] != (transposed ? w[1] : w[0]))
      return fail(ErrorCode::shape, "linear: x {} does not match w {}{}", x.text(), w.text(),
                  transposed ? " transposed" : "");
    if (attributes.narrow && !transposed)
      return fail(ErrorCode::shape, "linear: a narrow product needs w transposed, term {} is not", i);
    if (i && !(shape == y.shape))
      return fail(ErrorCode::shape, "linear: term {} gives {}, the first {}", i, shape.text(), y.shape.text());
    y.shape = shape;
  }
  if (const Type& bias = in[2 * terms]; !absent(bias)) {
    CHECK_OK(expect_shape("linear", "bias", bias, {y.shape[1]}));
    CHECK_OK(expect_f32("linear", "bias", bias));
  }
  if (const Type& addend = in[2 * terms + 1]; !absent(addend)) {
    CHECK_OK(expect_shape("linear", "addend", addend, y.shape));
    if (addend.codec != y.codec) return fail(ErrorCode::shape, "linear: the addend should be {}", y.codec->name);
  }
  return std::vector{y};
}

int64_t workspace(const std::any& attributes, std::span<const Type> in, std::span<const Type> out, Multiply multiply,
                  int threads) {
  std::vector<Operand> operands;
  for (const Type& type : in) operands.push_back({nullptr, type.shape, type.codec});
  Term terms[kMostTerms];
  const Product product = describe_linear(of(attributes), operands, {nullptr, out[0].shape, out[0].codec}, terms);
  return of(attributes).narrow ? narrow_workspace_bytes(multiply, {&product, 1}, threads)
                               : gemm_workspace_bytes(multiply, product, threads);
}

void run(const Call& call) noexcept {
  Term terms[kMostTerms];
  const Product product = describe_linear(call.as<LinearAttributes>(), call.in, call.out[0], terms);
  if (call.as<LinearAttributes>().narrow)
    narrow(call.run.threads, call.run.multiply, {&product, 1}, call.workspace);
  else
    gemm(call.run.threads, call.run.multiply, product, call.workspace);
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const LinearAttributes& attributes = call.as<LinearAttributes>();
  const auto& y = call.out[0];
  const int64_t rows = y.shape[0], columns = y.shape[1];
  const size_t terms = attributes.terms.size();
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (size_t t = 0; t < terms; ++t) {
        const auto& x = call.in[2 * t];
        const auto& w = call.in[2 * t + 1];
        const int64_t depth = x.shape[1];
        double product = 0;
        for (int64_t k = 0; k < depth; ++k)
          product += x[i * depth + k] * (attributes.terms[t].transposed ? w[j * depth + k] : w[k * columns + j]);
        sum += attributes.terms[t].scale * product;
      }
      if (const auto& bias = call.in[2 * terms]) sum += bias[j];
      if (const auto& addend = call.in[2 * terms + 1]) sum += addend[i * columns + j];
      y[i * columns + j] = sum;
    }
}

Result<void> gradient(Backward& backward, const Node& node) {
  linear_gradient(backward, node, [&](size_t i, ValueId dy) {
    const auto [transposed, scale] = node.as<LinearAttributes>().terms[i];
    const ValueId kept = backward.saved(node.in[2 * i]);
    backward.accumulate(node.in[2 * i + 1], kLinearDw, ScaleAttributes{scale},
                        transposed ? std::vector{dy, kept} : std::vector{kept, dy}, ".sum");
  });
  return {};
}

// y' = sum_i s_i (x_i' W_i^(T) + x_i W_i'^(T)) + bias' + addend', rounded once too.
Result<void> tangent(Tangents& tangents, const Node& node) {
  Graph& g = tangents.graph();
  const LinearAttributes& a = node.as<LinearAttributes>();
  const size_t terms = a.terms.size();
  LinearAttributes moved{.terms = {}, .codec = a.codec};
  std::vector<ValueId> in;
  for (size_t i = 0; i < terms; ++i) {
    const ValueId x = node.in[2 * i], w = node.in[2 * i + 1];
    if (const ValueId dx = tangents.of(x); dx != kNone) moved.terms.push_back(a.terms[i]), in.insert(in.end(), {dx, w});
    if (const ValueId dw = tangents.of(w); dw != kNone) moved.terms.push_back(a.terms[i]), in.insert(in.end(), {x, dw});
  }
  const ValueId bias = tangents.of(node.in[2 * terms]), addend = tangents.of(node.in[2 * terms + 1]);
  const std::string name = tangents.name(node.out[0]);
  if (moved.terms.empty()) {
    PointwiseBuilder b;
    b.shape(g.value(node.out[0]).type.shape);
    in.clear();
    Expr sum = b.constant(0);
    if (bias != kNone) sum = sum + b.row(), in.push_back(bias);
    if (addend != kNone) sum = sum + b.tensor(), in.push_back(addend);
    b.output(sum, a.codec);
    tangents.set(node.out[0], g.emit(kPointwise, b.attributes(), in, name));
    return {};
  }
  in.insert(in.end(), {bias, addend});
  tangents.set(node.out[0], g.emit(kLinear, moved, in, name));
  return {};
}

ProductUse use_of(const Shape& weight, ProductUse wide) {
  return std::min(weight[0], weight[1]) < kNarrow ? ProductUse::narrow : wide;
}

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  for (size_t i = 0; 2 * i + 3 < in.size(); ++i) {
    const Type& weight = in[2 * i + 1];
    const bool transposed = of(any).terms[i].transposed;
    cost.of(use_of(weight.shape, transposed ? ProductUse::forward : ProductUse::input_gradient)) +=
        2.0 * static_cast<double>(in[2 * i].shape[0]) * static_cast<double>(weight.shape.count());
    if (weight.codec->block > 1) cost.decoded += static_cast<double>(weight.shape.count());
  }
  return cost;
}

std::string text(const std::any& any) {
  std::string out = "{";
  for (const auto& [transposed, scale] : of(any).terms)
    out += fmt::format("{}{} ", transposed ? "T" : "N", scale == 1 ? "" : fmt::format("*{}", scale));
  out.back() = '}';
  return out + (of(any).narrow ? " narrow" : "");
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr};
  const auto f = [](int64_t a, int64_t b) { return Type{{a, b}}; };
  return {
      {LinearAttributes{}, {f(5, 7), f(3, 7), none, none}},
      {LinearAttributes{.terms = {{false, 1}}}, {f(4, 6), f(6, 9), Type{{9}}, none}},
      {LinearAttributes{.terms = {{true, 1}, {true, 0.5}, {false, 2}}},
       {f(9, 8), f(50, 8), f(9, 3), f(50, 3), f(9, 5), f(5, 50), Type{{50}}, f(9, 50)}},
      {LinearAttributes{.codec = &kBf16},
       {Type{{13, 64}, &kBf16}, Type{{33, 64}, find_codec("q8_0") ? find_codec("q8_0") : &kF16}, none,
        Type{{13, 33}, &kBf16}}},
      {LinearAttributes{.terms = {{true, 1}, {true, 0.5}}, .narrow = true},
       {f(7, 50), f(37, 50), f(7, 3), f(37, 3), Type{{37}}, f(7, 37)}},
      {LinearAttributes{.codec = &kBf16, .narrow = true}, {Type{{1, 64}, &kBf16}, Type{{33, 64}, &kQ8_0}, none, none}},
      {LinearAttributes{.codec = &kBf16, .narrow = true}, {Type{{6, 96}, &kBf16}, Type{{38, 96}, &kBf16}, none, none}},
  };
}

// accumulator += scale left^T right
Result<std::vector<Type>> infer_dw(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("linear_dw", in, 3));
  CHECK_OK(expect_rank("linear_dw", "left", in[1], 2));
  CHECK_OK(expect_rank("linear_dw", "right", in[2], 2));
  CHECK_OK(expect_shape("linear_dw", "right", in[2], {in[1].shape[0], in[2].shape[1]}));
  CHECK_OK(expect_shape("linear_dw", "accumulator", in[0], {in[1].shape[1], in[2].shape[1]}));
  CHECK_OK(expect_f32("linear_dw", "accumulator", in[0]));
  return std::vector{Type{in[0].shape, &kF32}};
}

// One granule of tokens.
Product describe_dw(float scale, const Matrix& left, const Matrix& right, const Operand& out, Term* term) {
  *term = {left, right, true, false, scale};
  return {.terms = {term, 1}, .codec = &kF32, .c = out.data, .m = out.shape[0], .n = out.shape[1], .accumulate = true};
}

Matrix rows_of(const Operand& operand, int64_t row) {
  Matrix matrix = operand.matrix();
  matrix.data += row * matrix.stride();
  matrix.rows = std::min(kGranule, matrix.rows - row);
  return matrix;
}

int64_t workspace_dw(const std::any&, std::span<const Type> in, std::span<const Type> out, Multiply multiply,
                     int threads) {
  const auto operand = [](const Type& type) { return Operand{nullptr, type.shape, type.codec}; };
  Term term;
  const Product product =
      describe_dw(1, rows_of(operand(in[1]), 0), rows_of(operand(in[2]), 0), operand(out[0]), &term);
  return gemm_workspace_bytes(multiply, product, threads);
}

void run_dw(const Call& call) noexcept {
  for (int64_t row = 0; row < call.in[1].shape[0]; row += kGranule) {
    Term term;
    const Product product = describe_dw(call.as<ScaleAttributes>().scale, rows_of(call.in[1], row),
                                        rows_of(call.in[2], row), call.out[0], &term);
    gemm(call.run.threads, call.run.multiply, product, call.workspace);
  }
}

[[gnu::cold]] void reference_dw(const ReferenceCall& call) {
  const auto& left = call.in[1];
  const auto& right = call.in[2];
  const int64_t rows = left.shape[0], n = left.shape[1], k = right.shape[1];
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < k; ++j) {
      double sum = 0;
      for (int64_t r = 0; r < rows; ++r) sum += left[r * n + i] * right[r * k + j];
      call.out[0][i * k + j] = call.in[0][i * k + j] + call.as<ScaleAttributes>().scale * sum;
    }
}

Cost cost_dw(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(use_of(out[0].shape, ProductUse::weight_gradient)) =
      2.0 * static_cast<double>(in[1].shape[0]) * static_cast<double>(out[0].shape.count());
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples_dw() {
  return {{ScaleAttributes{}, {Type{{3, 7}}, Type{{5, 3}}, Type{{5, 7}}}},
          {ScaleAttributes{0.5}, {Type{{9, 50}}, Type{{530, 9}, &kBf16}, Type{{530, 50}, &kBf16}}}};
}

int64_t sum_width(const Shape& x) { return x.rank() == 1 ? 1 : x[1]; }

Result<std::vector<Type>> infer_sum(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("column_sum", in, 2));
  CHECK_OK(expect_numbers("column_sum", "x", in[1]));
  if (in[1].shape.rank() != 1) CHECK_OK(expect_rank("column_sum", "x", in[1], 2));
  CHECK_OK(expect_elements("column_sum", "x", in[1].shape.rank() == 1 ? in[1] : Type{}));
  CHECK_OK(expect_rank("column_sum", "accumulator", in[0], 1));
  if (in[0].shape[0] == 0 || sum_width(in[1].shape) % in[0].shape[0] != 0)
    return fail(ErrorCode::shape, "column_sum: rows of {} are not whole groups of {}", sum_width(in[1].shape),
                in[0].shape[0]);
  CHECK_OK(expect_f32("column_sum", "accumulator", in[0]));
  return std::vector{Type{in[0].shape, &kF32}};
}

int64_t workspace_sum(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int) {
  return row_buffer_bytes(sum_width(in[1].shape), 2, 1);
}

// Rows in order, granule by granule; one thread, as the order is the result.
void run_sum(const Call& call) noexcept {
  const int64_t rows = call.in[1].shape[0], n = sum_width(call.in[1].shape), group = call.out[0].shape[0];
  float* const partial = row_buffer(call, n, 2, 0, 1);
  for (int64_t row = 0; row < rows; row += kGranule) {
    std::fill(partial, partial + n, 0.0f);
    for (int64_t r = row; r < std::min(rows, row + kGranule); ++r)
      add_scaled(partial, read_row({call.in[1].data, {rows, n}, call.in[1].codec}, r, n, row_buffer(call, n, 2, 0, 0)),
                 1, n);
    for (int64_t g = 0; g < n; g += group) add_scaled(call.out[0].as<float>(), partial + g, 1, group);
  }
}

[[gnu::cold]] void reference_sum(const ReferenceCall& call) {
  const int64_t group = call.in[0].shape[0];
  for (int64_t j = 0; j < group; ++j) call.out[0][j] = call.in[0][j];
  for (int64_t i = 0; i < call.in[1].shape.count(); ++i) call.out[0][i % group] += call.in[1][i];
}

[[gnu::cold]] std::vector<Sample> samples_sum() {
  return {{{}, {Type{{7}}, Type{{9, 7}}}},
          {{}, {Type{{33}}, Type{{600, 33}, &kBf16}}},
          {{}, {Type{{1}}, Type{{600}}}},
          {{}, {Type{{4}}, Type{{9, 12}}}}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

void linear_gradient(Backward& backward, const Node& node, const WeightGradient& weight_gradient) {
  const LinearAttributes& attributes = node.as<LinearAttributes>();
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone) return;
  const size_t terms = attributes.terms.size();
  for (size_t i = 0; i < terms; ++i) {
    const auto [transposed, scale] = attributes.terms[i];
    const ValueId x = node.in[2 * i], w = node.in[2 * i + 1];
    if (backward.wanted(w)) weight_gradient(i, dy);
    if (backward.wanted(x)) backward.add_product(x, {dy, w, !transposed, scale});
  }
  if (const ValueId bias = node.in[2 * terms]; backward.wanted(bias))
    backward.accumulate(bias, kColumnSum, {}, {dy}, ".sum");
  if (const ValueId addend = node.in[2 * terms + 1]; backward.wanted(addend)) backward.add(addend, dy);
}

Product describe_linear(const LinearAttributes& attributes, std::span<const Operand> in, const Operand& y,
                        Term* terms) {
  const size_t count = attributes.terms.size();
  for (size_t i = 0; i < count; ++i)
    terms[i] = {in[2 * i].matrix(), in[2 * i + 1].matrix(), false, attributes.terms[i].transposed,
                attributes.terms[i].scale};
  return {.terms = {terms, count},
          .codec = y.codec,
          .c = y.data,
          .m = y.shape[0],
          .n = y.shape[1],
          .bias = in[2 * count].as<const float>(),
          .addend = in[2 * count + 1].data};
}

const Op kLinear = {.name = "linear",
                    .infer = infer,
                    .text = text,
                    .gradient = gradient,
                    .tangent = tangent,
                    .workspace = workspace,
                    .cost = cost,
                    .reference = reference,
                    .run = run,
                    .samples = samples};
const Op kLinearDw = {
    .name = "linear_dw",
    .infer = infer_dw,
    .text = [](const std::any& any) { return fmt::format("{{*{}}}", std::any_cast<ScaleAttributes>(&any)->scale); },
    .workspace = workspace_dw,
    .cost = cost_dw,
    .reference = reference_dw,
    .run = run_dw,
    .samples = samples_dw,
    .in_place = kAccumulates};
const Op kColumnSum = {.name = "column_sum",
                       .infer = infer_sum,
                       .workspace = workspace_sum,
                       .cost = pointwise_cost,
                       .reference = reference_sum,
                       .run = run_sum,
                       .samples = samples_sum,
                       .in_place = kAccumulates,
                       .alone = true};

}  // namespace thimble
