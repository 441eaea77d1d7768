// segment_sum: sums over runs of rows, such as the tokens of a document, given to every row of the run.
//
//   y_i = sum of x_j over the rows j with starts[j] = starts[i];  starts[i] is the first row of the run that i is in
//   Gradient  dx = segment_sum(dy) over the same runs: the matrix of the sum is symmetric
#include "ops/backward.h"
#include "ops/matrix.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("segment_sum", in, 2));
  CHECK_OK(expect_rank("segment_sum", "x", in[0], 1));
  CHECK_OK(expect_f32("segment_sum", "x", in[0]));
  CHECK_OK(expect_indices("segment_sum", "starts", in[1], in[0].shape[0]));
  return std::vector{in[0]};
}

// In double, in the order of the rows.
void run(const Call& call) noexcept {
  call.run.threads.once([&] {
    const int64_t rows = call.in[0].shape[0];
    const float* const x = call.in[0].as<const float>();
    const int32_t* const starts = call.in[1].as<const int32_t>();
    for (int64_t first = 0, end = 0; first < rows; first = end) {
      double sum = 0;
      for (; end < rows && starts[end] == starts[first]; ++end) sum += static_cast<double>(x[end]);
      std::fill(call.out[0].as<float>() + first, call.out[0].as<float>() + end, static_cast<float>(sum));
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t rows = call.in[0].shape[0];
  for (int64_t i = 0; i < rows; ++i) {
    call.out[0][i] = 0;
    for (int64_t j = 0; j < rows; ++j) call.out[0][i] += call.in[1][i] == call.in[1][j] ? call.in[0][j] : 0;
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  backward.add(x, backward.graph().emit(kSegmentSum, {}, {dy, backward.saved(node.in[1])}, backward.name(x)));
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{{}, {Type{{7}}, Type{{7}, &kI32}}, {{}, {0, 0, 0, 3, 4, 4, 4}}},
          {{}, {Type{{1}}, Type{{1}, &kI32}}, {{}, {0}}}};
}

}  // namespace

const Op kSegmentSum = {.name = "segment_sum",
                        .infer = infer,
                        .gradient = gradient,
                        .tangent = linear_tangent<0>,
                        .cost = pointwise_cost,
                        .reference = reference,
                        .run = run,
                        .samples = samples};

}  // namespace thimble
