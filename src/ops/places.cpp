// Places in the rows of a matrix: where a row's smallest numbers are, what is there, and the reverse.
//
//   smallest_places  p[i] = columns of the `count` smallest |x[i, :]|, ascending
//   pick_places      y[i, j] = x[i, p[i, j]]
//   put_places       y[i, p[i, j]] += x[i, j], over j in order
//   Gradient         of pick: put of dy; of put: pick of dy; of smallest_places none, and none to places
//   Tangent          of pick and put: the same of the derivative of x
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/backward.h"
#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

// The nearest column; what is not a number is column 0.
template <class Number>
int64_t column_of(Number place, int64_t columns) {
  const Number nearest = std::floor(place + Number{0.5});
  if (!(nearest > 0)) return 0;
  return nearest >= static_cast<Number>(columns) ? columns - 1 : static_cast<int64_t>(nearest);
}

Result<void> expect_matrix(const char* op, const char* operand, const Type& type) {
  CHECK_OK(expect_rank(op, operand, type, 2));
  return expect_f32(op, operand, type);
}

Result<std::vector<Type>> infer_smallest(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("smallest_places", in, 1));
  CHECK_OK(expect_matrix("smallest_places", "x", in[0]));
  const int64_t count = std::any_cast<SmallestAttributes>(&any)->count, n = in[0].shape[1];
  if (count < 1 || count > n) return fail(ErrorCode::shape, "smallest_places: {} numbers of rows of {}", count, n);
  return std::vector{Type{{in[0].shape[0], count}, &kF32, in[0].extent}};
}

Result<std::vector<Type>> infer_pick(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("pick_places", in, 2));
  CHECK_OK(expect_matrix("pick_places", "x", in[0]));
  CHECK_OK(expect_matrix("pick_places", "places", in[1]));
  CHECK_OK(expect_shape("pick_places", "places", in[1], {in[0].shape[0], in[1].shape[1]}));
  return std::vector{Type{in[1].shape, &kF32, in[0].extent}};
}

Result<std::vector<Type>> infer_put(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("put_places", in, 2));
  CHECK_OK(expect_matrix("put_places", "x", in[0]));
  CHECK_OK(expect_matrix("put_places", "places", in[1]));
  CHECK_OK(expect_shape("put_places", "places", in[1], in[0].shape));
  const int64_t columns = std::any_cast<PutAttributes>(&any)->columns;
  if (columns < 1) return fail(ErrorCode::shape, "put_places: {} columns of the result", columns);
  return std::vector{Type{{in[0].shape[0], columns}, &kF32, in[0].extent}};
}

// Calls each(row, j, column) for the places of rows [first, last), in order.
template <class Number, class Each>
void for_places(const Number* places, int64_t first, int64_t last, int64_t count, int64_t columns, const Each& each) {
  for (int64_t r = first; r < last; ++r)
    for (int64_t j = 0; j < count; ++j) each(r, j, column_of(places[r * count + j], columns));
}

// Writes the columns of the smallest magnitudes of x [n] to `at` [n], the first `count` of them ascending.
template <class Number>
void smallest(const Number* x, int32_t* at, int64_t n, int64_t count) {
  std::iota(at, at + n, 0);
  const auto key = [&](int32_t i) {
    return std::isnan(x[i]) ? std::numeric_limits<Number>::infinity() : std::abs(x[i]);
  };
  const auto before = [&](int32_t a, int32_t b) {
    const Number first = key(a), second = key(b);
    return first != second ? first < second : a < b;
  };
  if (count < n) std::nth_element(at, at + count, at + n, before);
  std::sort(at, at + count);
}

int64_t workspace_smallest(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 1, threads);
}

void run_smallest(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[1], count = call.out[0].shape[1];
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    auto* const at = reinterpret_cast<int32_t*>(row_buffer(call, n, 1, thread, 0));
    for (int64_t r = begin; r < end; ++r) {
      smallest(call.in[0].as<const float>() + r * n, at, n, count);
      for (int64_t j = 0; j < count; ++j) call.out[0].as<float>()[r * count + j] = static_cast<float>(at[j]);
    }
  });
}

void run_pick(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[1], count = call.out[0].shape[1];
  const float* const x = call.in[0].as<const float>();
  float* const y = call.out[0].as<float>();
  call.run.threads.split(call.out[0].shape[0], 1, [&](int64_t begin, int64_t end, int) {
    for_places(call.in[1].as<const float>(), begin, end, count, n,
               [&](int64_t r, int64_t j, int64_t column) { y[r * count + j] = x[r * n + column]; });
  });
}

void run_put(const Call& call) noexcept {
  const int64_t n = call.out[0].shape[1], count = call.in[0].shape[1];
  const float* const x = call.in[0].as<const float>();
  float* const y = call.out[0].as<float>();
  call.run.threads.split(call.out[0].shape[0], 1, [&](int64_t begin, int64_t end, int) {
    std::fill(y + begin * n, y + end * n, 0.0f);
    for_places(call.in[1].as<const float>(), begin, end, count, n,
               [&](int64_t r, int64_t j, int64_t column) { y[r * n + column] += x[r * count + j]; });
  });
}

[[gnu::cold]] void reference_smallest(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1], count = call.out[0].shape[1];
  for (int64_t r = 0; r < call.in[0].shape[0]; ++r)
    for (int64_t c = 0, found = 0; c < n; ++c) {
      const double own = std::abs(call.in[0][r * n + c]);
      int64_t smaller = 0;  // how many of the row come first
      for (int64_t other = 0; other < n; ++other) {
        const double size = std::abs(call.in[0][r * n + other]);
        smaller += size < own || (size == own && other < c);
      }
      if (smaller < count) call.out[0][r * count + found++] = static_cast<double>(c);
    }
}

[[gnu::cold]] void reference_pick(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1], count = call.out[0].shape[1];
  for (int64_t r = 0; r < call.out[0].shape[0]; ++r)
    for (int64_t j = 0; j < count; ++j)
      call.out[0][r * count + j] = call.in[0][r * n + column_of(call.in[1][r * count + j], n)];
}

[[gnu::cold]] void reference_put(const ReferenceCall& call) {
  const int64_t n = call.out[0].shape[1], count = call.in[0].shape[1];
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
  for (int64_t r = 0; r < call.out[0].shape[0]; ++r)
    for (int64_t j = 0; j < count; ++j)
      call.out[0][r * n + column_of(call.in[1][r * count + j], n)] += call.in[0][r * count + j];
}

Result<void> gradient_pick(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  const PutAttributes attributes{backward.graph().value(x).type.shape[1]};
  backward.add(x, backward.graph().emit(kPutPlaces, attributes, {dy, backward.saved(node.in[1])}, backward.name(x)));
  return {};
}

Result<void> gradient_put(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  backward.add(x, backward.graph().emit(kPickPlaces, {}, {dy, backward.saved(node.in[1])}, backward.name(x)));
  return {};
}

std::string text_smallest(const std::any& any) {
  return fmt::format("{{{}}}", std::any_cast<SmallestAttributes>(&any)->count);
}
std::string text_put(const std::any& any) { return fmt::format("{{{}}}", std::any_cast<PutAttributes>(&any)->columns); }

[[gnu::cold]] std::vector<Sample> samples_smallest() {
  return {{SmallestAttributes{3}, {Type{{5, 17}}}},
          {SmallestAttributes{4}, {Type{{3, 4}}}},
          {SmallestAttributes{1}, {Type{{2, 1}}}}};
}
// Random places: some before the row, some the same.
[[gnu::cold]] std::vector<Sample> samples_pick() {
  return {{{}, {Type{{5, 2}}, Type{{5, 9}}}, {}, {1}}, {{}, {Type{{3, 1}}, Type{{3, 4}}}, {}, {1}}};
}
[[gnu::cold]] std::vector<Sample> samples_put() {
  return {{PutAttributes{2}, {Type{{5, 9}}, Type{{5, 9}}}, {}, {1}},
          {PutAttributes{7}, {Type{{3, 4}}, Type{{3, 4}}}, {}, {1}}};
}

}  // namespace

const Op kSmallestPlaces = {.name = "smallest_places",
                            .infer = infer_smallest,
                            .text = text_smallest,
                            .workspace = workspace_smallest,
                            .cost = pointwise_cost,
                            .reference = reference_smallest,
                            .run = run_smallest,
                            .samples = samples_smallest};
const Op kPickPlaces = {.name = "pick_places",
                        .infer = infer_pick,
                        .gradient = gradient_pick,
                        .tangent = linear_tangent<0>,
                        .cost = pointwise_cost,
                        .reference = reference_pick,
                        .run = run_pick,
                        .samples = samples_pick};
const Op kPutPlaces = {.name = "put_places",
                       .infer = infer_put,
                       .text = text_put,
                       .gradient = gradient_put,
                       .tangent = linear_tangent<0>,
                       .cost = pointwise_cost,
                       .reference = reference_put,
                       .run = run_put,
                       .samples = samples_put};

}  // namespace thimble
