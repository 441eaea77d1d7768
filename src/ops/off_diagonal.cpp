// off_diagonal: rows through what pairs of different columns have in common, over a granule of rows.
//
//   Forward   y_t = sum over j != i of C_ij x_tj, C = sum of a_s b_s^T over the rows s of t's granule
//   Gradient  dx = off_diagonal(b, a, dy), da = off_diagonal(dy, x, b), db = off_diagonal(x, dy, a)
//   Kernel    y_t = sum of a_s (b_s x_t) less the diagonal: C itself, which is as wide as the rows, is never made
//   Granule   of 512 rows, never of a pass, so that a batch may be cut anywhere
#include <algorithm>
#include <array>

#include "ops/backward.h"
#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

constexpr int64_t kTile = 16;  // rows that are made at a time
constexpr std::string_view kNames[] = {"a", "b", "x"};

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("off_diagonal", in, 3));
  CHECK_OK(expect_rank("off_diagonal", "a", in[0], 2));
  for (size_t i = 0; i < 3; ++i) {
    CHECK_OK(expect_f32("off_diagonal", kNames[i], in[i]));
    CHECK_OK(expect_shape("off_diagonal", kNames[i], in[i], in[0].shape));
  }
  return std::vector{in[0]};
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::narrow) = 4.0 * static_cast<double>(kGranule * in[0].shape.count());
  return cost;
}

// Of a thread: products with the rows of a granule, and the diagonal of C.
int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(kGranule + in[0].shape[1], 1, threads);
}

// In sixteen chains, whatever the machine.
float product(const float* a, const float* b, int64_t count) noexcept {
  std::array<float, 16> sums = {};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16)
    for (size_t k = 0; k < 16; ++k) sums[k] += a[i + static_cast<int64_t>(k)] * b[i + static_cast<int64_t>(k)];
  for (size_t k = 0; i < count; ++i, ++k) sums[k] += a[i] * b[i];
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t k = 0; k < half; ++k) sums[k] += sums[k + half];
  return sums[0];
}

// Rows [first, end) of y, of the granule that begins at row `from` and ends at `to`.
void make_rows(const Call& call, int64_t first, int64_t end, int64_t from, int64_t to, float* buffer) noexcept {
  const int64_t n = call.in[0].shape[1];
  const float *const a = call.in[0].as<const float>(), *const b = call.in[1].as<const float>(),
                     *const x = call.in[2].as<const float>();
  float *const products = buffer, *const diagonal = buffer + kGranule;
  std::fill_n(diagonal, n, 0.0f);
  for (int64_t s = from; s < to; ++s)
    for (int64_t i = 0; i < n; ++i) diagonal[i] += a[s * n + i] * b[s * n + i];
  for (int64_t t = first; t < end; ++t) {
    float* const y = call.out[0].as<float>() + t * n;
    for (int64_t s = from; s < to; ++s) products[s - from] = product(b + s * n, x + t * n, n);
    for (int64_t i = 0; i < n; ++i) y[i] = -diagonal[i] * x[t * n + i];
    for (int64_t s = from; s < to; ++s)
      for (int64_t i = 0; i < n; ++i) y[i] += products[s - from] * a[s * n + i];
  }
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[0].shape[0], n = call.in[0].shape[1];
  call.run.threads.split((rows + kTile - 1) / kTile, 1, [&](int64_t begin, int64_t end, int thread) {
    float* const buffer = row_buffer(call, kGranule + n, 1, thread, 0);
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t first = tile * kTile, from = first / kGranule * kGranule;
      make_rows(call, first, std::min(rows, first + kTile), from, std::min(rows, from + kGranule), buffer);
    }
  });
}
static_assert(kGranule % kTile == 0);

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t rows = call.in[0].shape[0], n = call.in[0].shape[1];
  for (int64_t t = 0; t < rows; ++t) {
    const int64_t from = t / kGranule * kGranule, to = std::min(rows, from + kGranule);
    for (int64_t i = 0; i < n; ++i) {
      double sum = 0;
      for (int64_t j = 0; j < n; ++j)
        for (int64_t s = from; s < to && j != i; ++s)
          sum += call.in[0][s * n + i] * call.in[1][s * n + j] * call.in[2][t * n + j];
      call.out[0][t * n + i] = sum;
    }
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), a = node.in[0], b = node.in[1], x = node.in[2];
  if (dy == kNone) return {};
  const auto add = [&](ValueId of, ValueId left, ValueId right, ValueId rows) {
    backward.add(of, backward.graph().emit(kOffDiagonal, {}, {left, right, rows}, backward.name(of)));
  };
  if (backward.wanted(x)) add(x, backward.saved(b), backward.saved(a), dy);
  if (backward.wanted(a)) add(a, dy, backward.saved(x), backward.saved(b));
  if (backward.wanted(b)) add(b, backward.saved(x), dy, backward.saved(a));
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  const auto three = [](int64_t rows, int64_t columns) {
    const Type type{{rows, columns}};
    return Sample{{}, {type, type, type}};
  };
  return {three(5, 7), three(3, 1), three(17, 19), three(520, 2)};
}

}  // namespace

const Op kOffDiagonal = {.name = "off_diagonal",
                         .infer = infer,
                         .gradient = gradient,
                         .tangent = linear_tangent<0, 1, 2>,
                         .workspace = workspace,
                         .cost = cost,
                         .reference = reference,
                         .run = run,
                         .samples = samples};

}  // namespace thimble
