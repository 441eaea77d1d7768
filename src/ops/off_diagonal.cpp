// off_diagonal: rows through what pairs of different columns have in common, over a granule of rows.
//
//   Forward   y_t = sum over j != i of C_ij x_tj, C = sum of a_s b_s^T over the rows s of t's granule
//   Gradient  dx = off_diagonal(b, a, dy), da = off_diagonal(dy, x, b), db = off_diagonal(x, dy, a)
//   Kernel    y_t = sum of a_s (b_s x_t) less the diagonal: C itself, which is as wide as the rows, is never made
//   Granule   of 512 rows, never of a pass, so that a batch may be cut anywhere
#include <algorithm>
#include <array>

#include "core/round.h"
#include "ops/backward.h"
#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

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
  cost.of(ProductUse::forward) = 4.0 * static_cast<double>(kGranule * in[0].shape.count());
  return cost;
}

// The products of a granule's rows with each other.
int64_t products_bytes(int64_t rows) { return round_up(rows * rows * 4, 64); }

Matrix matrix(const float* numbers, int64_t rows, int64_t columns) {
  return {&kF32, reinterpret_cast<const std::byte*>(numbers), rows, columns};
}

// [rows, n] of f32, and the products [rows, rows] of x with b and y with these: without the diagonal's part.
struct Granule {
  const float *a, *b, *x;
  float *products, *y;
  int64_t rows, n;

  Term common() const { return {.a = matrix(x, rows, n), .b = matrix(b, rows, n), .b_transposed = true}; }
  Term through() const { return {.a = matrix(products, rows, rows), .b = matrix(a, rows, n)}; }
  Product product(const Term& term, float* c, int64_t columns) const {
    return {.terms = {&term, 1}, .c = reinterpret_cast<std::byte*>(c), .m = rows, .n = columns};
  }
};

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  const int64_t rows = std::min(kGranule, in[0].shape[0]), n = in[0].shape[1];
  const Granule g{.rows = rows, .n = n};
  const Term common = g.common(), through = g.through();
  return products_bytes(rows) + std::max(gemm_workspace_bytes(Multiply::f32, g.product(common, nullptr, rows), threads),
                                         gemm_workspace_bytes(Multiply::f32, g.product(through, nullptr, n), threads));
}

constexpr int64_t kColumns = 16;  // at a time, a line of each row

// Columns of y from `first` on, less what the diagonal of C makes.
void leave_diagonal(const Granule& g, int64_t first) noexcept {
  const int64_t count = std::min(kColumns, g.n - first);
  std::array<float, kColumns> diagonal = {};
  for (int64_t s = 0; s < g.rows; ++s)
    for (int64_t i = 0; i < count; ++i)
      diagonal[static_cast<size_t>(i)] += g.a[s * g.n + first + i] * g.b[s * g.n + first + i];
  for (int64_t t = 0; t < g.rows; ++t)
    for (int64_t i = 0; i < count; ++i)
      g.y[t * g.n + first + i] -= diagonal[static_cast<size_t>(i)] * g.x[t * g.n + first + i];
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[0].shape[0], n = call.in[0].shape[1];
  const auto spare = call.workspace.subspan(static_cast<size_t>(products_bytes(std::min(kGranule, rows))));
  for (int64_t first = 0; first < rows; first += kGranule) {
    const auto at = [&](const Operand& operand) { return operand.as<float>() + first * n; };
    const Granule g{at(call.in[0]),
                    at(call.in[1]),
                    at(call.in[2]),
                    reinterpret_cast<float*>(call.workspace.data()),
                    at(call.out[0]),
                    std::min(kGranule, rows - first),
                    n};
    const Term common = g.common(), through = g.through();
    gemm(call.run.threads, Multiply::f32, g.product(common, g.products, g.rows), spare);
    gemm(call.run.threads, Multiply::f32, g.product(through, g.y, n), spare);
    call.run.threads.split((n + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t block = begin; block < end; ++block) leave_diagonal(g, block * kColumns);
    });
  }
}

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
