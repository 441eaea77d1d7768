// @NAME@: y = -x.   Gradient: dx = -dy, by the same operation.
//
//   Paper   Authors and year, arXiv number, equation
//
// As made from the template, so that every test passes: write the operation over it.
#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("@NAME@", in, 1));
  CHECK_OK(expect_rank("@NAME@", "x", in[0], 2));
  return std::vector{in[0]};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 2, threads);
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[1];
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const y = row_buffer(call, n, 2, thread, 1);
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = read_row(call.in[0], i, n, row_buffer(call, n, 2, thread, 0));
      for (int64_t j = 0; j < n; ++j) y[j] = -x[j];
      write_row(call.out[0], i, n, y);
    }
  });
}

void reference(const ReferenceCall& call) {
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) call.out[0][i] = -call.in[0][i];
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone || !backward.wanted(node.in[0])) return {};
  backward.add(node.in[0], backward.graph().emit(@SYMBOL@, {}, {dy}, backward.name(node.in[0])));
  return {};
}

// Odd sizes, every codec that activations come in.
std::vector<Sample> samples() { return {{{}, {Type{{3, 7}}}}, {{}, {Type{{5, 33}, &kBf16}}}}; }

constexpr InPlace kOverX[] = {{0, 0, false}};

}  // namespace

const Op @SYMBOL@ = {.name = "@NAME@",
                      .infer = infer,
                      .gradient = gradient,
                      .workspace = workspace,
                      .cost = pointwise_cost,
                      .reference = reference,
                      .run = run,
                      .samples = samples,
                      .in_place = kOverX};

}  // namespace thimble
