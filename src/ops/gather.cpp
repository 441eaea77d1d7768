// gather and scatter: rows or columns of a matrix at indices, and the reverse, which adds what shares an index to
// zeros.
//
//   gather    axis rows: y[i] = x[at[i]];  axis columns: y[:, j] = x[:, at[j]]
//   scatter   axis rows: y[at[i]] += x[i], over the indices in order;  axis columns likewise
//   Gradient  of gather: scatter of dy; of scatter: gather of dy
#include <cstring>

#include "ops/backward.h"
#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

using Axis = GatherAttributes::Axis;

const GatherAttributes& of(const std::any& attributes) { return *std::any_cast<GatherAttributes>(&attributes); }

int side(const std::any& attributes) { return of(attributes).axis == Axis::rows ? 0 : 1; }

Shape with(const Shape& shape, Axis axis, int64_t extent) {
  return axis == Axis::rows ? Shape{extent, shape[1]} : Shape{shape[0], extent};
}

Result<std::vector<Type>> infer_gather(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("gather", in, 2));
  CHECK_OK(expect_rank("gather", "x", in[0], 2));
  CHECK_OK(expect_indices("gather", "indices", in[1]));
  const Axis axis = of(any).axis;
  if (axis == Axis::columns) CHECK_OK(expect_elements("gather", "x", in[0]));
  return std::vector{
      Type{with(in[0].shape, axis, in[1].shape[0]), in[0].codec, axis == Axis::rows ? in[1].extent : in[0].extent}};
}

Result<std::vector<Type>> infer_scatter(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("scatter", in, 2));
  CHECK_OK(expect_rank("scatter", "x", in[0], 2));
  CHECK_OK(expect_elements("scatter", "x", in[0]));
  CHECK_OK(expect_indices("scatter", "indices", in[1], in[0].shape[side(any)]));
  if (of(any).whole < 1) return fail(ErrorCode::shape, "scatter: {} rows or columns of the result", of(any).whole);
  const Extent extent = of(any).axis == Axis::rows ? Extent::fixed : in[0].extent;
  return std::vector{Type{with(in[0].shape, of(any).axis, of(any).whole), in[0].codec, extent}};
}

void gather_columns(const Call& call) noexcept {
  const int64_t size = call.in[0].codec->block_bytes, count = call.in[1].shape[0];
  const int32_t* const at = call.in[1].as<const int32_t>();
  call.run.threads.split(call.out[0].shape[0], 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const std::byte* const from = call.in[0].data + r * size * call.in[0].shape[1];
      std::byte* const to = call.out[0].data + r * size * count;
      for (int64_t j = 0; j < count; ++j) std::memcpy(to + j * size, from + at[j] * size, static_cast<size_t>(size));
    }
  });
}

void run_gather(const Call& call) noexcept {
  if (of(call.attributes).axis == Axis::columns) return gather_columns(call);
  const int64_t bytes = call.in[0].codec->bytes(call.in[0].shape[1]);
  call.run.threads.once([&] {
    for (int64_t i = 0; i < call.in[1].shape[0]; ++i)
      std::memcpy(call.out[0].data + i * bytes, call.in[0].data + call.in[1].as<int32_t>()[i] * bytes,
                  static_cast<size_t>(bytes));
  });
}

int64_t workspace_scatter(const std::any&, std::span<const Type> in, std::span<const Type> out, Multiply, int threads) {
  return row_buffer_bytes(std::max(in[0].shape[1], out[0].shape[1]), 2, threads);
}

// Row by row of the result, summed in f32 in the order of the indices.
void run_scatter(const Call& call) noexcept {
  const int32_t* const at = call.in[1].as<const int32_t>();
  const int64_t count = call.in[1].shape[0], narrow = call.in[0].shape[1], wide = call.out[0].shape[1];
  const bool rows = of(call.attributes).axis == Axis::rows;
  call.run.threads.split(call.out[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const decoded = row_buffer(call, std::max(narrow, wide), 2, thread, 0);
    float* const sum = row_buffer(call, std::max(narrow, wide), 2, thread, 1);
    for (int64_t r = begin; r < end; ++r) {
      std::fill_n(sum, wide, 0.0f);
      if (!rows) {
        const float* const x = read_row(call.in[0], r, narrow, decoded);
        for (int64_t j = 0; j < count; ++j) sum[at[j]] += x[j];
      }
      for (int64_t i = 0; rows && i < count; ++i) {
        if (at[i] != r) continue;
        const float* const x = read_row(call.in[0], i, narrow, decoded);
        for (int64_t j = 0; j < wide; ++j) sum[j] += x[j];
      }
      write_row(call.out[0], r, wide, sum);
    }
  });
}

// Element (r, c) of the smaller matrix and where it lies in the larger one.
template <class Each>
void for_elements(Axis axis, const ReferenceOperand& smaller, const ReferenceOperand& at, int64_t columns,
                  const Each& each) {
  for (int64_t r = 0; r < smaller.shape[0]; ++r)
    for (int64_t c = 0; c < smaller.shape[1]; ++c) {
      const int64_t row = axis == Axis::rows ? static_cast<int64_t>(at[r]) : r;
      const int64_t column = axis == Axis::rows ? c : static_cast<int64_t>(at[c]);
      each(r * smaller.shape[1] + c, row * columns + column);
    }
}

[[gnu::cold]] void reference_gather(const ReferenceCall& call) {
  for_elements(of(call.attributes).axis, call.out[0], call.in[1], call.in[0].shape[1],
               [&](int64_t small, int64_t large) { call.out[0][small] = call.in[0][large]; });
}

[[gnu::cold]] void reference_scatter(const ReferenceCall& call) {
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
  for_elements(of(call.attributes).axis, call.in[0], call.in[1], call.out[0].shape[1],
               [&](int64_t small, int64_t large) { call.out[0][large] += call.in[0][small]; });
}

Result<void> gradient_gather(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  GatherAttributes attributes = of(node.attributes);
  attributes.whole = backward.graph().value(x).type.shape[side(node.attributes)];
  backward.add(x, backward.graph().emit(kScatter, attributes, {dy, backward.saved(node.in[1])}, backward.name(x)));
  return {};
}

Result<void> gradient_scatter(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  const GatherAttributes attributes{.axis = of(node.attributes).axis};
  backward.add(x, backward.graph().emit(kGather, attributes, {dy, backward.saved(node.in[1])}, backward.name(x)));
  return {};
}

std::string text(const std::any& any) {
  return fmt::format("{{{}{}}}", of(any).axis == Axis::rows ? "rows" : "columns",
                     of(any).whole > 0 ? fmt::format(" of {}", of(any).whole) : "");
}

[[gnu::cold]] std::vector<Sample> samples_gather() {
  return {{GatherAttributes{}, {Type{{5, 7}}, Type{{3}, &kI32}}, {{}, {4, 0, 4}}},
          {GatherAttributes{.axis = Axis::columns}, {Type{{9, 7}, &kBf16}, Type{{4}, &kI32}}, {{}, {6, 0, 2, 6}}}};
}

[[gnu::cold]] std::vector<Sample> samples_scatter() {
  return {
      {GatherAttributes{.whole = 6}, {Type{{3, 37}}, Type{{3}, &kI32}}, {{}, {4, 0, 4}}},
      {GatherAttributes{.axis = Axis::columns, .whole = 9}, {Type{{5, 3}, &kBf16}, Type{{3}, &kI32}}, {{}, {8, 1, 8}}}};
}

}  // namespace

const Op kGather = {.name = "gather",
                    .infer = infer_gather,
                    .text = text,
                    .gradient = gradient_gather,
                    .tangent = linear_tangent<0>,
                    .cost = pointwise_cost,
                    .reference = reference_gather,
                    .run = run_gather,
                    .samples = samples_gather};
const Op kScatter = {.name = "scatter",
                     .infer = infer_scatter,
                     .text = text,
                     .gradient = gradient_scatter,
                     .tangent = linear_tangent<0>,
                     .workspace = workspace_scatter,
                     .cost = pointwise_cost,
                     .reference = reference_scatter,
                     .run = run_scatter,
                     .samples = samples_scatter};

}  // namespace thimble
