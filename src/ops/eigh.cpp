// eigh: eigenvalues and vectors of a symmetric matrix by Jacobi's method, in double.
//
//   Source    Golub and Van Loan, Matrix Computations, 4th ed., section 8.5: cyclic by a tournament, so that the n/2
//             rotations of a round are of different rows and threads may share them
//   Ends      when no rotation of a sweep was larger than rounding, after 40 sweeps at most
//   Gradient  none: bases are not differentiated
#include <cmath>
#include <numeric>

#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

constexpr int kMostSweeps = 40;
constexpr double kNegligible = 1e-15;  // of the geometric mean of the two diagonal elements, or of the largest

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("eigh", in, 1));
  CHECK_OK(expect_rank("eigh", "s", in[0], 2));
  CHECK_OK(expect_elements("eigh", "s", in[0]));
  const int64_t n = in[0].shape[0];
  if (n == 0) return fail(ErrorCode::shape, "eigh: s is empty");
  CHECK_OK(expect_shape("eigh", "s", in[0], {n, n}));
  return std::vector{Type{{n}}, Type{{n, n}}};
}

struct Rotation {
  int64_t p, q;
  double c, s;  // s 0: none
};

struct Memory {
  double *a, *v;        // [n, n]: the matrix; eigenvectors as rows
  Rotation* rotations;  // of a round
  int64_t* order;       // players of the tournament, then rows by eigenvalue
  static int64_t players(int64_t n) { return n + n % 2; }
  static int64_t bytes(int64_t n) {
    return 16 * n * n + players(n) / 2 * static_cast<int64_t>(sizeof(Rotation)) + 8 * players(n);
  }
  Memory(std::byte* base, int64_t n)
      : a(reinterpret_cast<double*>(base)),
        v(a + n * n),
        rotations(reinterpret_cast<Rotation*>(v + n * n)),
        order(reinterpret_cast<int64_t*>(rotations + players(n) / 2)) {}
};

// The rotation of rows p and q that makes a[p, q] zero.
Rotation rotation_of(const double* a, int64_t n, int64_t p, int64_t q, double largest) noexcept {
  const double pq = a[p * n + q], pp = a[p * n + p], qq = a[q * n + q];
  const double size = std::max(std::sqrt(std::abs(pp * qq)), kNegligible * largest);
  if (std::abs(pq) <= kNegligible * size || pq == 0) return {p, q, 1, 0};
  const double tau = (qq - pp) / (2 * pq);
  const double t = (tau >= 0 ? 1 : -1) / (std::abs(tau) + std::sqrt(1 + tau * tau));
  const double c = 1 / std::sqrt(1 + t * t);
  return {p, q, c, t * c};
}

void rotate(double* x, double* y, double c, double s, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    const double was = x[i];
    x[i] = c * was - s * y[i];
    y[i] = s * was + c * y[i];
  }
}

// One round: rows of a and v, then columns of a. Returns whether anything was rotated.
template <class Split>
bool round(const Memory& m, int64_t n, int64_t pairs, double largest, const Split& split) noexcept {
  const int64_t players = Memory::players(n);
  split(pairs, 16, [&](int64_t i) {
    const int64_t x = m.order[i], y = m.order[players - 1 - i], p = std::min(x, y), q = std::max(x, y);
    m.rotations[i] = q < n ? rotation_of(m.a, n, p, q, largest) : Rotation{0, 0, 1, 0};
  });
  split(pairs, 12 * n, [&](int64_t i) {
    const auto [p, q, c, s] = m.rotations[i];
    if (s == 0) return;
    rotate(m.a + p * n, m.a + q * n, c, s, n);
    rotate(m.v + p * n, m.v + q * n, c, s, n);
  });
  split(n, 6 * pairs, [&](int64_t row) {
    double* const x = m.a + row * n;
    for (int64_t i = 0; i < pairs; ++i) {
      const auto [p, q, c, s] = m.rotations[i];
      if (s == 0) continue;
      const double was = x[p];
      x[p] = c * was - s * x[q];
      x[q] = s * was + c * x[q];
    }
  });
  for (int64_t i = 0; i < pairs; ++i)
    if (m.rotations[i].s != 0) return true;
  return false;
}

template <class Split>
void solve(const Memory& m, int64_t n, const Split& split) noexcept {
  double largest = 0;
  for (int64_t i = 0; i < n * n; ++i) largest = std::max(largest, std::abs(m.a[i]));
  const int64_t players = Memory::players(n);
  std::iota(m.order, m.order + players, int64_t{0});
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    bool rotated = false;
    for (int64_t r = 0; r + 1 < players; ++r) {
      rotated |= round(m, n, players / 2, largest, split);
      std::rotate(m.order + 1, m.order + players - 1, m.order + players);  // the first stays, the others move on
    }
    if (!rotated) break;
  }
  std::iota(m.order, m.order + n, int64_t{0});
  std::stable_sort(m.order, m.order + n, [&](int64_t x, int64_t y) { return m.a[x * n + x] > m.a[y * n + y]; });
}

double sign_of(const double* vector, int64_t n) noexcept {
  int64_t most = 0;
  for (int64_t i = 1; i < n; ++i)
    if (std::abs(vector[i]) > std::abs(vector[most]) * (1 + 1e-9)) most = i;
  return vector[most] < 0 ? -1 : 1;
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int) {
  return Memory::bytes(in[0].shape[0]) + row_buffer_bytes(in[0].shape[0], 1, 1);
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[0];
  const Memory m(call.workspace.data(), n);
  float* const buffer = reinterpret_cast<float*>(call.workspace.data() + Memory::bytes(n));
  std::fill(m.a, m.a + n * n, 0.0);
  for (int64_t i = 0; i < n; ++i) {
    const float* const row = read_row(call.in[0], i, n, buffer);
    for (int64_t j = 0; j < n; ++j) {
      m.a[i * n + j] += 0.5 * static_cast<double>(row[j]);
      m.a[j * n + i] += 0.5 * static_cast<double>(row[j]);
      m.v[i * n + j] = i == j;
    }
  }
  solve(m, n, [&](int64_t count, int64_t flops, const auto& each) {
    call.run.threads.split(count, 1 + kWorthAThread / flops, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) each(i);
    });
  });
  for (int64_t k = 0; k < n; ++k) {
    const double* const vector = m.v + m.order[k] * n;
    const double sign = sign_of(vector, n);
    if (call.out[0]) call.out[0].as<float>()[k] = static_cast<float>(m.a[m.order[k] * n + m.order[k]]);
    if (call.out[1])
      for (int64_t i = 0; i < n; ++i) call.out[1].as<float>()[i * n + k] = static_cast<float>(sign * vector[i]);
  }
}

// Power iteration with deflation, on the matrix made positive by a shift.
void reference(const ReferenceCall& call) {
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

// Some eight sweeps, each over both matrices n times.
Cost cost(const std::any&, std::span<const Type> in, std::span<const Type>) {
  const auto n = static_cast<double>(in[0].shape[0]);
  return {.bytes = 8 * 3 * 8 * n * n * n};
}

std::vector<Sample> samples() { return {{{}, {Type{{2, 2}}}}, {{}, {Type{{5, 5}}}}, {{}, {Type{{8, 8}, &kBf16}}}}; }

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
