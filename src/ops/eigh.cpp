// eigh: eigenvalues and vectors of a symmetric matrix, in double (ops/symmetric.h).
//
//   Gradient  none: bases are not differentiated
#include <cmath>
#include <numeric>

#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/symmetric.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("eigh", in, 1));
  CHECK_OK(expect_rank("eigh", "s", in[0], 2));
  CHECK_OK(expect_elements("eigh", "s", in[0]));
  const int64_t n = in[0].shape[0];
  if (n == 0) return fail(ErrorCode::shape, "eigh: s is empty");
  CHECK_OK(expect_shape("eigh", "s", in[0], {n, n}));
  return std::vector{Type{{n}}, Type{{n, n}}};
}

double sign_of(const double* vector, int64_t n) noexcept {
  int64_t most = 0;
  for (int64_t i = 1; i < n; ++i)
    if (std::abs(vector[i]) > std::abs(vector[most]) * (1 + 1e-9)) most = i;
  return vector[most] < 0 ? -1 : 1;
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int) {
  return SymmetricMemory::bytes(in[0].shape[0]) + row_buffer_bytes(in[0].shape[0], 1, 1);
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[0];
  const SymmetricMemory m(call.workspace.data(), n);
  float* const buffer = reinterpret_cast<float*>(call.workspace.data() + SymmetricMemory::bytes(n));
  std::fill(m.a, m.a + n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    const float* const row = read_row(call.in[0], i, n, buffer);
    for (int64_t j = 0; j < n; ++j) {
      m.a[i * n + j] += 0.5 * static_cast<double>(row[j]);
      m.a[j * n + i] += 0.5 * static_cast<double>(row[j]);
    }
  }
  solve_symmetric(m, n, [&](int64_t count, int64_t flops, const auto& each) {
    call.run.threads.split(count, 1 + kWorthAThread / flops, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) each(i);
    });
  });
  for (int64_t k = 0; k < n; ++k) {
    const double* const vector = m.vectors + m.order[k] * n;
    const double sign = sign_of(vector, n);
    if (call.out[0]) call.out[0].as<float>()[k] = static_cast<float>(m.diagonal[m.order[k]]);
    if (call.out[1])
      for (int64_t i = 0; i < n; ++i) call.out[1].as<float>()[i * n + k] = static_cast<float>(sign * vector[i]);
  }
}

// Power iteration with deflation, on the matrix made positive by a shift.
[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[0];
  std::vector<double> a(static_cast<size_t>(n * n));
  double shift = 0;
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < n; ++j) {
      a[static_cast<size_t>(i * n + j)] = 0.5 * (call.in[0][i * n + j] + call.in[0][j * n + i]);
      sum += std::abs(a[static_cast<size_t>(i * n + j)]);
    }
    shift = std::max(shift, sum);
  }
  std::vector<std::vector<double>> found;
  for (int64_t k = 0; k < n; ++k) {
    std::vector<double> x(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) x[static_cast<size_t>(i)] = std::cos(static_cast<double>((k + 1) * (i + 1)));
    double value = 0;
    for (int step = 0; step < 60'000; ++step) {
      std::vector<double> y(static_cast<size_t>(n), 0.0);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < n; ++j)
          y[static_cast<size_t>(i)] +=
              (a[static_cast<size_t>(i * n + j)] + (i == j ? shift : 0)) * x[static_cast<size_t>(j)];
      for (const auto& v : found) {
        const double along = std::inner_product(v.begin(), v.end(), y.begin(), 0.0);
        for (size_t i = 0; i < y.size(); ++i) y[i] -= along * v[i];
      }
      value = std::sqrt(std::inner_product(y.begin(), y.end(), y.begin(), 0.0));
      double moved = 0;
      for (size_t i = 0; i < y.size(); ++i) {
        y[i] /= value;
        moved = std::max(moved, std::abs(y[i] - x[i]));
      }
      x = std::move(y);
      if (moved < 1e-13) break;
    }
    if (call.out[0]) call.out[0][k] = value - shift;
    const double sign = sign_of(x.data(), n);
    for (int64_t i = 0; call.out[1] && i < n; ++i) call.out[1][i * n + k] = sign * x[static_cast<size_t>(i)];
    found.push_back(std::move(x));
  }
}

// Of the rotations, mostly: two or three shifts an eigenvalue, each over half of the vectors, some twice a pass over
// the matrix.
Cost cost(const std::any&, std::span<const Type> in, std::span<const Type>) {
  const auto n = static_cast<double>(in[0].shape[0]);
  return {.bytes = 4 * 8 * n * n * n};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{{}, {Type{{2, 2}}}}, {{}, {Type{{5, 5}}}}, {{}, {Type{{8, 8}, &kBf16}}}};
}

}  // namespace

const Op kEigh = {.name = "eigh",
                  .infer = infer,
                  .workspace = workspace,
                  .cost = cost,
                  .reference = reference,
                  .run = run,
                  .samples = samples,
                  .alone = true};

}  // namespace thimble
