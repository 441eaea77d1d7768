// cholesky: s = l l^T, l lower, in double.
//
//   Source    Golub and Van Loan, Matrix Computations, 4th ed., algorithm 4.2.1 (by columns)
//   Gradient  none
#include <cmath>

#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("cholesky", in, 1));
  CHECK_OK(expect_rank("cholesky", "s", in[0], 2));
  CHECK_OK(expect_f32("cholesky", "s", in[0]));
  CHECK_OK(expect_shape("cholesky", "s", in[0], {in[0].shape[0], in[0].shape[0]}));
  return std::vector{Type{in[0].shape}};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int) {
  return 8 * in[0].shape.count();
}

// Column j of row i: what is left of s[i, j] without the columns before.
double rest(const double* l, int64_t n, int64_t i, int64_t j, double s) noexcept {
  for (int64_t k = 0; k < j; ++k) s -= l[i * n + k] * l[j * n + k];
  return s;
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[0];
  const float* const s = call.in[0].as<const float>();
  double* const l = reinterpret_cast<double*>(call.workspace.data());
  for (int64_t j = 0; j < n; ++j) {
    const double diagonal = std::sqrt(rest(l, n, j, j, static_cast<double>(s[j * n + j])));
    l[j * n + j] = diagonal;
    call.run.threads.split(n - j - 1, 8, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = j + 1 + begin; i < j + 1 + end; ++i)
        l[i * n + j] = rest(l, n, i, j, static_cast<double>(s[i * n + j])) / diagonal;
    });
  }
  call.run.threads.split(n, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < n; ++j)
        call.out[0].as<float>()[i * n + j] = j <= i ? static_cast<float>(l[i * n + j]) : 0.0f;
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[0];
  const auto& l = call.out[0];
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      if (j > i) {
        l[i * n + j] = 0;
        continue;
      }
      double sum = call.in[0][i * n + j];
      for (int64_t k = 0; k < j; ++k) sum -= l[i * n + k] * l[j * n + k];
      l[i * n + j] = i == j ? std::sqrt(sum) : sum / l[j * n + j];
    }
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type>) {
  const auto n = static_cast<double>(in[0].shape[0]);
  return {.bytes = 8.0 / 3 * n * n * n};
}

// Random numbers make no positive definite matrix of more than one row: larger ones are in matrix_test.cpp.
[[gnu::cold]] std::vector<Sample> samples() { return {{{}, {Type{{1, 1}}}, {}, {}, true}}; }

}  // namespace

const Op kCholesky = {.name = "cholesky",
                      .infer = infer,
                      .workspace = workspace,
                      .cost = cost,
                      .reference = reference,
                      .run = run,
                      .samples = samples,
                      .alone = true};

}  // namespace thimble
