// put_rows: x with other rows in some places, or with zeros there.
//
//   Gradient  of x: dy with zeros in those places; of the rows: dy there
#include <cstring>

#include "ops/backward.h"
#include "ops/fewer_rows.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {
namespace {

// in: x, y, rows
Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("put_rows", in, 3));
  CHECK_OK(expect_rank("put_rows", "x", in[0], 2));
  CHECK_OK(expect_elements("put_rows", "x", in[0]));
  CHECK_OK(expect_numbers("put_rows", "x", in[0]));
  CHECK_OK(expect_indices("put_rows", "rows", in[2]));
  if (in[2].shape[0] > in[0].shape[0])
    return fail(ErrorCode::shape, "put_rows: {} rows into {}", in[2].shape[0], in[0].shape[0]);
  if (absent(in[1])) return std::vector{in[0]};
  CHECK_OK(expect_shape("put_rows", "y", in[1], {in[2].shape[0], in[0].shape[1]}));
  if (in[1].codec != in[0].codec)
    return fail(ErrorCode::shape, "put_rows: y should be {} as x is, found {}", in[0].codec->name, in[1].codec->name);
  return std::vector{in[0]};
}

void run(const Call& call) noexcept {
  const int64_t bytes = call.in[0].codec->bytes(call.in[0].shape[1]);
  const auto size = static_cast<size_t>(bytes);
  if (call.out[0].data != call.in[0].data)
    call.run.threads.split(call.out[0].shape[0], 16, [&](int64_t begin, int64_t end, int) {
      std::memcpy(call.out[0].data + begin * bytes, call.in[0].data + begin * bytes,
                  static_cast<size_t>((end - begin) * bytes));
    });
  call.run.threads.split(call.in[2].shape[0], 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      std::byte* const to = call.out[0].data + call.in[2].as<const int32_t>()[i] * bytes;
      if (call.in[1])
        std::memcpy(to, call.in[1].data + i * bytes, size);
      else
        std::memset(to, 0, size);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1];
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) call.out[0][i] = call.in[0][i];
  for (int64_t i = 0; i < call.in[2].shape[0]; ++i)
    for (int64_t j = 0; j < n; ++j)
      call.out[0][static_cast<int64_t>(call.in[2][i]) * n + j] = call.in[1] ? call.in[1][i * n + j] : 0;
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0], y = node.in[1];
  if (dy == kNone) return {};
  const ValueId rows = backward.saved(node.in[2]);
  Graph& graph = backward.graph();
  if (backward.wanted(y)) backward.add(y, graph.emit(kGather, GatherAttributes{}, {dy, rows}, backward.name(y)));
  if (backward.wanted(x)) backward.add(x, graph.emit(kPutRows, {}, {dy, kNone, rows}, backward.name(x)));
  return {};
}

// The operation is linear in both.
Result<void> tangent(Tangents& tangents, const Node& node) {
  Graph& g = tangents.graph();
  const std::string name = tangents.name(node.out[0]);
  ValueId x = tangents.of(node.in[0]);
  if (x == kNone) {
    PointwiseBuilder zero;
    zero.output(zero.tensor() * 0.0, g.value(node.in[0]).type.codec);
    x = g.emit(kPointwise, zero.attributes(), {node.in[0]}, name + ".zero");
  }
  const ValueId y = node.in[1] == kNone ? kNone : tangents.of(node.in[1]);
  tangents.set(node.out[0], g.emit(kPutRows, {}, {x, y, node.in[2]}, name));
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr};
  return {{{}, {Type{{6, 5}}, Type{{3, 5}}, Type{{3}, &kI32}}, {{}, {}, {0, 4, 5}}},
          {{}, {Type{{19, 33}, &kBf16}, Type{{2, 33}, &kBf16}, Type{{2}, &kI32}}, {{}, {}, {18, 3}}},
          {{}, {Type{{4, 7}}, none, Type{{2}, &kI32}}, {{}, {}, {1, 2}}}};
}

constexpr InPlace kOverX[] = {{0, 0, false}};

}  // namespace

const Op kPutRows = {.name = "put_rows",
                     .infer = infer,
                     .gradient = gradient,
                     .tangent = tangent,
                     .cost = pointwise_cost,
                     .reference = reference,
                     .run = run,
                     .samples = samples,
                     .in_place = kOverX};

}  // namespace thimble
