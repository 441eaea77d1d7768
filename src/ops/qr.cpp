// qr: a = q r by Householder reflections, in double.
//
//   Source    Golub and Van Loan, Matrix Computations, 4th ed., algorithms 5.1.1, 5.2.1 and 5.1.6
//   Order     columns lie one after another in the workspace; threads share the columns that a reflection changes
//   Gradient  none: bases are not differentiated
#include <cmath>

#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("qr", in, 1));
  CHECK_OK(expect_rank("qr", "a", in[0], 2));
  const int64_t m = in[0].shape[0], n = in[0].shape[1];
  if (m < n || n == 0)
    return fail(ErrorCode::shape, "qr: a should have at least as many rows as columns, found {}", in[0].shape.text());
  return std::vector{Type{{m, n}}, Type{{n, n}}};
}

int64_t reflections_bytes(int64_t m, int64_t n) { return 8 * (m * n + 2 * n); }

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  const int64_t m = in[0].shape[0], n = in[0].shape[1];
  return 2 * reflections_bytes(m, n) + row_buffer_bytes(n, 1, threads);
}

double dot(const double* a, const double* b, int64_t n) noexcept {
  double lanes[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int k = 0; k < 4; ++k) lanes[k] += a[i + k] * b[i + k];
  for (; i < n; ++i) lanes[0] += a[i] * b[i];
  return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
}

// x -= factor (v.x) v, from element `first` on.
void reflect(const double* v, double factor, double* x, int64_t first, int64_t m) noexcept {
  const double along = factor * dot(v + first, x + first, m - first);
  for (int64_t i = first; i < m; ++i) x[i] -= along * v[i];
}

// Column j of `a` becomes the vector of a reflection that takes it to (alpha, 0, ...); returns 2 / v.v.
double make_reflection(double* column, int64_t j, int64_t m, double& alpha) noexcept {
  const double norm = std::sqrt(dot(column + j, column + j, m - j));
  alpha = column[j] > 0 ? -norm : norm;
  if (norm == 0) return 0;
  column[j] -= alpha;
  return 2 / dot(column + j, column + j, m - j);
}

struct Reflections {
  double *columns, *q;         // [n, m]: of a, of q
  double *diagonal, *factors;  // [n]
  Reflections(std::byte* base, int64_t m, int64_t n)
      : columns(reinterpret_cast<double*>(base)), q(columns + m * n), diagonal(q + m * n), factors(diagonal + n) {}
};

template <class Split>
void factorise(const Reflections& f, int64_t m, int64_t n, const Split& split) noexcept {
  for (int64_t j = 0; j < n; ++j) {
    f.factors[j] = make_reflection(f.columns + j * m, j, m, f.diagonal[j]);
    split(n - j - 1, 4 * (m - j),
          [&](int64_t k) { reflect(f.columns + j * m, f.factors[j], f.columns + (j + 1 + k) * m, j, m); });
  }
  // q is the product of the reflections, applied to the columns of the unit matrix from the last on.
  split(n, 4 * m * n, [&](int64_t k) {
    double* const column = f.q + k * m;
    std::fill(column, column + m, 0.0);
    column[k] = 1;
    for (int64_t j = n; j-- > 0;) reflect(f.columns + j * m, f.factors[j], column, j, m);
  });
}

double sign_of(const Reflections& f, int64_t j) noexcept { return f.diagonal[j] < 0 ? -1 : 1; }
double r_at(const Reflections& f, int64_t i, int64_t j, int64_t m) noexcept {
  if (i > j) return 0;
  return sign_of(f, i) * (i == j ? f.diagonal[i] : f.columns[j * m + i]);
}

void run(const Call& call) noexcept {
  const int64_t m = call.in[0].shape[0], n = call.in[0].shape[1];
  Threads& threads = call.run.threads;
  const Reflections f(call.workspace.data(), m, n);
  float* const buffers = reinterpret_cast<float*>(call.workspace.data() + 2 * reflections_bytes(m, n));
  const int64_t stride = row_buffer_bytes(n, 1, 1) / 4;
  threads.split(m, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const float* const row = read_row(call.in[0], i, n, buffers + thread * stride);
      for (int64_t j = 0; j < n; ++j) f.columns[j * m + i] = static_cast<double>(row[j]);
    }
  });
  factorise(f, m, n, [&](int64_t count, int64_t flops, const auto& each) {
    threads.split(count, 1 + kWorthAThread / flops, [&](int64_t begin, int64_t end, int) {
      for (int64_t k = begin; k < end; ++k) each(k);
    });
  });
  threads.split(m, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < n; ++j)
        call.out[0].as<float>()[i * n + j] = static_cast<float>(sign_of(f, j) * f.q[j * m + i]);
  });
  if (!call.out[1]) return;
  threads.split(n, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < n; ++j) call.out[1].as<float>()[i * n + j] = static_cast<float>(r_at(f, i, j, m));
  });
}

// By modified Gram-Schmidt, twice, for columns that are independent.
[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t m = call.in[0].shape[0], n = call.in[0].shape[1];
  const auto& q = call.out[0];
  for (int64_t i = 0; i < m * n; ++i) q[i] = call.in[0][i];
  if (call.out[1])
    for (int64_t i = 0; i < n * n; ++i) call.out[1][i] = 0;
  for (int64_t j = 0; j < n; ++j) {
    for (int round = 0; round < 2; ++round)
      for (int64_t k = 0; k < j; ++k) {
        double along = 0;
        for (int64_t i = 0; i < m; ++i) along += q[i * n + k] * q[i * n + j];
        for (int64_t i = 0; i < m; ++i) q[i * n + j] -= along * q[i * n + k];
        if (call.out[1]) call.out[1][k * n + j] += along;
      }
    double norm = 0;
    for (int64_t i = 0; i < m; ++i) norm += q[i * n + j] * q[i * n + j];
    norm = std::sqrt(norm);
    for (int64_t i = 0; i < m; ++i) q[i * n + j] /= norm;
    if (call.out[1]) call.out[1][j * n + j] = norm;
  }
}

// Two passes over the matrix a column, some 4 m n^2 operations in all.
Cost cost(const std::any&, std::span<const Type> in, std::span<const Type>) {
  const auto n = static_cast<double>(in[0].shape[1]);
  return {.bytes = 16 * n * static_cast<double>(in[0].shape.count())};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{{}, {Type{{7, 5}}}}, {{}, {Type{{33, 33}}}}, {{}, {Type{{65, 9}, &kBf16}}}};
}

}  // namespace

const Op kQr = {.name = "qr",
                .infer = infer,
                .workspace = workspace,
                .cost = cost,
                .reference = reference,
                .run = run,
                .samples = samples,
                .alone = true};

}  // namespace thimble
