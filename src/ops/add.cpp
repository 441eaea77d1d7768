// add: y = a + b.   Gradient: da = db = dy.
#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("add", in, 2));
  CHECK_OK(expect_numbers("add", "a", in[0]));
  CHECK_OK(expect_shape("add", "b", in[1], in[0].shape));
  return std::vector{in[0]};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape.columns(), 3, threads);
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape.columns();
  call.run.threads.split(call.in[0].shape.rows(), 1, [&](int64_t begin, int64_t end, int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, n, 3, thread, i); };
    for (int64_t i = begin; i < end; ++i) {
      const float* const a = read_row(call.in[0], i, n, buffer(0));
      std::copy(a, a + n, buffer(2));
      add_scaled(buffer(2), read_row(call.in[1], i, n, buffer(1)), 1, n);
      write_row(call.out[0], i, n, buffer(2));
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) call.out[0][i] = call.in[0][i] + call.in[1][i];
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone) return {};
  for (ValueId in : node.in)
    if (backward.wanted(in)) backward.add(in, dy);
  return {};
}

Result<void> tangent(Tangents& tangents, const Node& node) {
  const ValueId a = tangents.of(node.in[0]), b = tangents.of(node.in[1]), y = node.out[0];
  const bool both = a != kNone && b != kNone;
  tangents.set(y, both ? tangents.graph().emit(kAdd, {}, {a, b}, tangents.name(y)) : a != kNone ? a : b);
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{{}, {Type{{3, 7}}, Type{{3, 7}}}}, {{}, {Type{{5, 33}, &kBf16}, Type{{5, 33}, &kBf16}}}};
}

constexpr InPlace kOverEither[] = {{0, 0, false}, {0, 1, false}};

}  // namespace

const Op kAdd = {.name = "add",
                 .infer = infer,
                 .gradient = gradient,
                 .tangent = tangent,
                 .workspace = workspace,
                 .cost = pointwise_cost,
                 .reference = reference,
                 .run = run,
                 .samples = samples,
                 .in_place = kOverEither};

}  // namespace thimble
