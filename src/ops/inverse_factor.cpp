// inverse_factor: u upper with u^T u = (h + damp mean(diag h) I)^-1, in double.
//
//   Paper     Frantar et al. 2022, arXiv:2210.17323, section 3, step 3 (the Cholesky form of the inverse)
//   Method    h = r r^T with r upper (Golub and Van Loan, Matrix Computations, 4th ed., algorithm 4.2.1, from the last
//             column on); u = r^-1. The authors invert and factor once more, which loses digits twice.
//   Gradient  none
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/doubles.h"
#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/transform.h"

namespace thimble {
namespace {

using Attributes = InverseFactorAttributes;

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("inverse_factor", in, 1));
  CHECK_OK(expect_rank("inverse_factor", "h", in[0], 2));
  CHECK_OK(expect_f32("inverse_factor", "h", in[0]));
  const int64_t n = in[0].shape[0];
  CHECK_OK(expect_shape("inverse_factor", "h", in[0], {n, n}));
  if (!(std::any_cast<Attributes>(&any)->damp >= 0))
    return fail(ErrorCode::shape, "inverse_factor: damp should be 0 or more");
  return std::vector{Type{{n, n}}, Type{{n}, &kI32}};
}

// The matrix, and a row of it, in double; the order.
int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int) {
  const int64_t n = in[0].shape[0];
  return 8 * (n * n + n) + (4 * n + 7) / 8 * 8;
}

// diag(i) is the diagonal. What is added to it.
template <class Diagonal>
double damping(double damp, int64_t n, Diagonal diagonal) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += diagonal(i) == 0 ? 1 : diagonal(i);
  return damp * sum / static_cast<double>(n);
}

template <class Diagonal>
void sort_columns(bool descending, int64_t n, Diagonal diagonal, int32_t* order) {
  std::iota(order, order + n, 0);
  if (descending) std::stable_sort(order, order + n, [&](int32_t a, int32_t b) { return diagonal(a) > diagonal(b); });
}

// Over the upper triangle of a [n, n]: a = r r^T.
void factor(Threads& threads, double* a, int64_t n) noexcept {
  for (int64_t j = n - 1; j >= 0; --j) {
    const int64_t after = n - j - 1;
    const double* const row = a + j * n + j + 1;
    const double diagonal = a[j * n + j] = std::sqrt(a[j * n + j] - dot(row, row, after));
    const int64_t grain = std::max<int64_t>(8, kWorthAThread / std::max<int64_t>(1, after));
    threads.split(j, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i)
        a[i * n + j] = (a[i * n + j] - dot(a + i * n + j + 1, row, after)) / diagonal;
    });
  }
}

// Over r [n, n] upper: its inverse, row by row from the last on. row: [n].
void invert(Threads& threads, double* r, double* row, int64_t n) noexcept {
  for (int64_t i = n - 1; i >= 0; --i) {
    const double inverse = 1 / r[i * n + i];
    std::copy(r + i * n + i + 1, r + (i + 1) * n, row + i + 1);
    const int64_t after = n - i - 1;
    const int64_t grain = std::max<int64_t>(16, kWorthAThread / std::max<int64_t>(1, after));
    threads.split(after, grain, [&](int64_t begin, int64_t end, int) {
      double* const to = r + i * n;
      const int64_t first = i + 1 + begin, last = i + 1 + end;
      std::fill(to + first, to + last, 0.0);
      for (int64_t k = i + 1; k < last; ++k) {
        const int64_t from = std::max(first, k);
        add_scaled(to + from, r + k * n + from, -row[k], last - from);
      }
      for (int64_t c = first; c < last; ++c) to[c] *= inverse;
    });
    r[i * n + i] = inverse;
  }
}

void run(const Call& call) noexcept {
  const auto& attributes = call.as<Attributes>();
  const int64_t n = call.in[0].shape[0];
  const float* const h = call.in[0].as<const float>();
  double* const a = reinterpret_cast<double*>(call.workspace.data());
  double* const row = a + n * n;
  auto* const order = reinterpret_cast<int32_t*>(row + n);
  const auto diagonal = [&](int64_t i) { return static_cast<double>(h[i * n + i]); };
  sort_columns(attributes.descending, n, diagonal, order);
  const double damp = damping(attributes.damp, n, diagonal);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = i; j < n; ++j) a[i * n + j] = static_cast<double>(h[order[i] * n + order[j]]);
    a[i * n + i] = (a[i * n + i] == 0 ? 1 : a[i * n + i]) + damp;
  }
  factor(call.run.threads, a, n);
  invert(call.run.threads, a, row, n);
  float* const u = call.out[0].as<float>();
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) u[i * n + j] = j < i ? 0.0f : static_cast<float>(a[i * n + j]);
  if (call.out[1]) std::copy_n(order, n, call.out[1].as<int32_t>());
}

// u^T u = h^-1 row by row: u h' has zeros below its diagonal, which with the triangle of u fixes it.
[[gnu::cold]] void reference(const ReferenceCall& call) {
  const auto& attributes = call.as<Attributes>();
  const int64_t n = call.in[0].shape[0];
  const auto diagonal = [&](int64_t i) { return call.in[0][i * n + i]; };
  std::vector<int32_t> order(static_cast<size_t>(n));
  sort_columns(attributes.descending, n, diagonal, order.data());
  const double damp = damping(attributes.damp, n, diagonal);
  const auto entry = [&](int64_t i, int64_t j) {
    const double value = call.in[0][order[static_cast<size_t>(i)] * n + order[static_cast<size_t>(j)]];
    return i != j ? value : (value == 0 ? 1 : value) + damp;
  };
  const auto& u = call.out[0];
  for (int64_t i = 0; i < n; ++i) {
    // Row i of u: x over columns i.. with (h' x)_j = 0 for j > i, scaled so that x h' x = 1, by Gauss elimination.
    const int64_t size = n - i;
    std::vector<std::vector<double>> m(static_cast<size_t>(size),
                                       std::vector<double>(static_cast<size_t>(size + 1), 0));
    for (int64_t r = 0; r < size; ++r)
      for (int64_t c = 0; c < size; ++c) m[static_cast<size_t>(r)][static_cast<size_t>(c)] = entry(i + r, i + c);
    m[0][static_cast<size_t>(size)] = 1;
    for (int64_t p = 0; p < size; ++p)
      for (int64_t r = 0; r < size; ++r) {
        if (r == p) continue;
        const double by =
            m[static_cast<size_t>(r)][static_cast<size_t>(p)] / m[static_cast<size_t>(p)][static_cast<size_t>(p)];
        for (int64_t c = 0; c <= size; ++c)
          m[static_cast<size_t>(r)][static_cast<size_t>(c)] -= by * m[static_cast<size_t>(p)][static_cast<size_t>(c)];
      }
    const double first = m[0][static_cast<size_t>(size)] / m[0][0];
    for (int64_t j = 0; j < n; ++j)
      u[i * n + j] = j < i ? 0
                           : m[static_cast<size_t>(j - i)][static_cast<size_t>(size)] /
                                 m[static_cast<size_t>(j - i)][static_cast<size_t>(j - i)] / std::sqrt(first);
  }
  if (call.out[1])
    for (int64_t i = 0; i < n; ++i) call.out[1][i] = order[static_cast<size_t>(i)];
}

std::string text(const std::any& any) {
  const auto& a = *std::any_cast<Attributes>(&any);
  return fmt::format("{{damp {}{}}}", a.damp, a.descending ? " descending" : "");
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type>) {
  const auto n = static_cast<double>(in[0].shape[0]);
  return {.bytes = 8.0 / 3 * n * n * n};
}

// Random numbers make no positive definite matrix of more than one row: larger ones are in transform_test.cpp.
[[gnu::cold]] std::vector<Sample> samples() { return {{Attributes{}, {Type{{1, 1}}}, {}, {}, true}}; }

}  // namespace

const Op kInverseFactor = {.name = "inverse_factor",
                           .infer = infer,
                           .text = text,
                           .workspace = workspace,
                           .cost = cost,
                           .reference = reference,
                           .run = run,
                           .samples = samples,
                           .alone = true};

}  // namespace thimble
