// slice and pad: some rows or columns of a matrix, and the reverse with zeros around them.
//
//   Gradient  of slice: pad; of pad: slice
#include <cstring>

#include "ops/backward.h"
#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

using Axis = SliceAttributes::Axis;

const SliceAttributes& of(const std::any& attributes) { return *std::any_cast<SliceAttributes>(&attributes); }

Shape with(const Shape& shape, Axis axis, int64_t extent) {
  return axis == Axis::rows ? Shape{extent, shape[1]} : Shape{shape[0], extent};
}

// Columns are cut between blocks of the codec.
Result<std::vector<Type>> infer(const char* op, const SliceAttributes& a, const Type& x, int64_t within, int64_t made) {
  CHECK_OK(expect_rank(op, "x", x, 2));
  if (a.begin < 0 || a.count < 1 || a.begin + a.count > within)
    return fail(ErrorCode::shape, "{}: {} to {} are not within {}", op, a.begin, a.begin + a.count, within);
  if (a.axis == Axis::columns) CHECK_OK(expect_elements(op, "x", x));
  if (a.axis == Axis::rows && x.extent != Extent::fixed)
    return fail(ErrorCode::shape, "{}: the number of rows of x is not fixed", op);
  return std::vector{Type{with(x.shape, a.axis, made), x.codec, x.extent}};
}

Result<std::vector<Type>> infer_slice(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("slice", in, 1));
  CHECK_OK(expect_rank("slice", "x", in[0], 2));
  return infer("slice", of(any), in[0], in[0].shape[of(any).axis == Axis::rows ? 0 : 1], of(any).count);
}

Result<std::vector<Type>> infer_pad(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("pad", in, 1));
  CHECK_OK(expect_rank("pad", "x", in[0], 2));
  CHECK_OK(expect_shape("pad", "x", in[0], with(in[0].shape, of(any).axis, of(any).count)));
  return infer("pad", of(any), in[0], of(any).whole, of(any).whole);
}

// Calls copy(row of the larger matrix, bytes from its begin on, row of the smaller one, bytes) for every row that both
// have.
template <class Copy>
void for_common_rows(const SliceAttributes& a, const Operand& smaller, const Operand& larger, const Call& call,
                     const Copy& copy) noexcept {
  const int64_t bytes = smaller.codec->bytes(smaller.shape[1]), stride = larger.codec->bytes(larger.shape[1]);
  const int64_t first = a.axis == Axis::rows ? a.begin : 0;
  const int64_t at = a.axis == Axis::rows ? 0 : a.begin * smaller.codec->block_bytes;
  call.run.threads.split(smaller.shape[0], 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r)
      copy(larger.data + (first + r) * stride + at, smaller.data + r * bytes, bytes);
  });
}

void run_slice(const Call& call) noexcept {
  for_common_rows(
      of(call.attributes), call.out[0], call.in[0], call,
      [](std::byte* large, std::byte* small, int64_t n) { std::memcpy(small, large, static_cast<size_t>(n)); });
}

void run_pad(const Call& call) noexcept {
  const int64_t bytes = call.out[0].shape.rows() * call.out[0].codec->bytes(call.out[0].shape.columns());
  call.run.threads.split(bytes, 4096, [&](int64_t begin, int64_t end, int) {
    std::memset(call.out[0].data + begin, 0, static_cast<size_t>(end - begin));
  });
  for_common_rows(
      of(call.attributes), call.in[0], call.out[0], call,
      [](std::byte* large, std::byte* small, int64_t n) { std::memcpy(large, small, static_cast<size_t>(n)); });
}

void reference(const SliceAttributes& a, const ReferenceOperand& smaller, const ReferenceOperand& larger,
               bool to_larger) {
  for (int64_t i = 0; i < smaller.shape[0]; ++i)
    for (int64_t j = 0; j < smaller.shape[1]; ++j) {
      const int64_t row = i + (a.axis == Axis::rows ? a.begin : 0), column = j + (a.axis == Axis::rows ? 0 : a.begin);
      double& small = smaller[i * smaller.shape[1] + j];
      double& large = larger[row * larger.shape[1] + column];
      (to_larger ? large : small) = to_larger ? small : large;
    }
}

[[gnu::cold]] void reference_slice(const ReferenceCall& call) {
  reference(of(call.attributes), call.out[0], call.in[0], false);
}

[[gnu::cold]] void reference_pad(const ReferenceCall& call) {
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
  reference(of(call.attributes), call.in[0], call.out[0], true);
}

Result<void> gradient_slice(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  SliceAttributes attributes = of(node.attributes);
  attributes.whole = backward.graph().value(x).type.shape[attributes.axis == Axis::rows ? 0 : 1];
  backward.add(x, backward.graph().emit(kPad, attributes, {dy}, backward.name(x)));
  return {};
}

Result<void> gradient_pad(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  backward.add(x, backward.graph().emit(kSlice, node.attributes, {dy}, backward.name(x)));
  return {};
}

std::string text(const std::any& any) {
  const SliceAttributes& a = of(any);
  return fmt::format("{{{} {} to {}{}}}", a.axis == Axis::rows ? "rows" : "columns", a.begin, a.begin + a.count,
                     a.whole ? fmt::format(" of {}", a.whole) : "");
}

[[gnu::cold]] std::vector<Sample> samples_slice() {
  return {{SliceAttributes{Axis::rows, 2, 3}, {Type{{7, 33}, &kBf16}}},
          {SliceAttributes{Axis::columns, 4, 5}, {Type{{7, 13}}}},
          {SliceAttributes{Axis::rows, 0, 1}, {Type{{5, 3}}}}};
}

[[gnu::cold]] std::vector<Sample> samples_pad() {
  return {{SliceAttributes{Axis::rows, 2, 3, 7}, {Type{{3, 33}, &kBf16}}},
          {SliceAttributes{Axis::columns, 4, 5, 13}, {Type{{7, 5}}}}};
}

}  // namespace

const Op kSlice = {.name = "slice",
                   .infer = infer_slice,
                   .text = text,
                   .gradient = gradient_slice,
                   .tangent = linear_tangent<0>,
                   .cost = pointwise_cost,
                   .reference = reference_slice,
                   .run = run_slice,
                   .samples = samples_slice};
const Op kPad = {.name = "pad",
                 .infer = infer_pad,
                 .text = text,
                 .gradient = gradient_pad,
                 .tangent = linear_tangent<0>,
                 .cost = pointwise_cost,
                 .reference = reference_pad,
                 .run = run_pad,
                 .samples = samples_pad};

}  // namespace thimble
