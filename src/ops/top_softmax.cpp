// top_softmax: in every row the softmax of its largest numbers, zeros elsewhere; of equal numbers the first count.
//
//   Gradient  dx = y (dy - sum_j y_j dy_j), row by row: zeros stay zeros
//   Tangent   y' = y (x' - sum_j y_j x'_j)
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/backward.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {
namespace {

int64_t count_of(const std::any& attributes) { return std::any_cast<TopKAttributes>(&attributes)->count; }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("top_softmax", in, 1));
  CHECK_OK(expect_rank("top_softmax", "x", in[0], 2));
  CHECK_OK(expect_f32("top_softmax", "x", in[0]));
  if (count_of(any) < 1 || count_of(any) > in[0].shape[1])
    return fail(ErrorCode::shape, "top_softmax: rows of {} have no {} largest", in[0].shape[1], count_of(any));
  return std::vector{Type{in[0].shape, &kF32, in[0].extent}};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 1, threads);
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[1], count = count_of(call.attributes);
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    int32_t* const at = reinterpret_cast<int32_t*>(row_buffer(call, n, 1, thread, 0));
    for (int64_t r = begin; r < end; ++r) {
      const float* const x = call.in[0].as<const float>() + r * n;
      float* const y = call.out[0].as<float>() + r * n;
      std::iota(at, at + n, 0);
      std::partial_sort(at, at + count, at + n,
                        [&](int32_t i, int32_t j) { return x[i] != x[j] ? x[i] > x[j] : i < j; });
      double sum = 0;
      for (int64_t k = 0; k < count; ++k)
        sum += std::exp(static_cast<double>(x[at[k]]) - static_cast<double>(x[at[0]]));
      std::fill_n(y, n, 0.0f);
      for (int64_t k = 0; k < count; ++k)
        y[at[k]] = static_cast<float>(std::exp(static_cast<double>(x[at[k]]) - static_cast<double>(x[at[0]])) / sum);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1], count = count_of(call.attributes);
  for (int64_t r = 0; r < call.in[0].shape[0]; ++r) {
    double sum = 0;
    for (int64_t j = 0; j < n; ++j) {
      int64_t before = 0;  // how many of the row come first
      for (int64_t i = 0; i < n; ++i) {
        const double other = call.in[0][r * n + i], own = call.in[0][r * n + j];
        before += other > own || (other == own && i < j);
      }
      sum += call.out[0][r * n + j] = before < count ? std::exp(call.in[0][r * n + j]) : 0;
    }
    for (int64_t j = 0; j < n; ++j) call.out[0][r * n + j] /= sum;
  }
}

// J d = y (d - sum of y d) by rows, with J the Jacobian where the result is y: it is symmetric, so that this is the
// gradient of an upstream gradient d, and the derivative along a direction d.
ValueId jacobian_times(Graph& graph, ValueId y, ValueId d, const std::string& name) {
  PointwiseBuilder products;
  products.output(products.tensor() * products.tensor());
  const ValueId each = graph.emit(kPointwise, products.attributes(), {y, d}, name + ".products");
  const ValueId sums = graph.emit(kReduce, ReduceAttributes{}, {each}, name + ".sums");
  PointwiseBuilder b;
  const Expr value = b.tensor(), upstream = b.tensor(), sum = b.column();
  b.output(value * (upstream - sum));
  return graph.emit(kPointwise, b.attributes(), {y, d, sums}, name);
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  backward.add(x, jacobian_times(backward.graph(), backward.saved(node.out[0]), dy, backward.name(x)));
  return {};
}

Result<void> tangent(Tangents& tangents, const Node& node) {
  const ValueId y = node.out[0];
  tangents.set(y, jacobian_times(tangents.graph(), y, tangents.of(node.in[0]), tangents.name(y)));
  return {};
}

std::string text(const std::any& any) { return fmt::format("{{{}}}", count_of(any)); }

[[gnu::cold]] std::vector<Sample> samples() {
  return {
      {TopKAttributes{2}, {Type{{3, 7}}}}, {TopKAttributes{1}, {Type{{5, 4}}}}, {TopKAttributes{9}, {Type{{2, 9}}}}};
}

}  // namespace

const Op kTopSoftmax = {.name = "top_softmax",
                        .infer = infer,
                        .text = text,
                        .gradient = gradient,
                        .tangent = tangent,
                        .workspace = workspace,
                        .cost = pointwise_cost,
                        .reference = reference,
                        .run = run,
                        .samples = samples};

}  // namespace thimble
