// eigh: eigenvalues and vectors of a symmetric matrix, in double: made tridiagonal by Householder's reflections, then
// diagonal by the QL algorithm with implicit shifts.
//
//   Source    Golub and Van Loan, Matrix Computations, 4th ed., algorithms 8.3.1 and 8.3.3; Wilkinson's shift
//   Cost      some 2 n^3 operations for the reflections, 9 n^3 for the vectors of the tridiagonal matrix, and 2 n^3 to
//             reflect them back
//   Threads   divide rows of reflections, and columns of the vectors that are rotated: no sum is divided
//   Gradient  none: bases are not differentiated
#include <cmath>
#include <numeric>

#include "kernels/doubles.h"
#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

constexpr int kMostShifts = 60;  // for one eigenvalue; three are usual
constexpr double kRounding = 0x1p-53;

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("eigh", in, 1));
  CHECK_OK(expect_rank("eigh", "s", in[0], 2));
  CHECK_OK(expect_elements("eigh", "s", in[0]));
  const int64_t n = in[0].shape[0];
  if (n == 0) return fail(ErrorCode::shape, "eigh: s is empty");
  CHECK_OK(expect_shape("eigh", "s", in[0], {n, n}));
  return std::vector{Type{{n}}, Type{{n, n}}};
}

// Of rows `row` and row + 1 of the vectors.
struct Rotation {
  int64_t row;
  double c, s;
};

struct Memory {
  double *a, *vectors;           // [n, n]: the matrix, then reflections in its rows; eigenvectors as rows
  double *diagonal, *beside;     // [n]: of the tridiagonal matrix; beside[i] is between i and i + 1
  double *reflected, *strength;  // [n]: A v; 2 / (v . v) of each reflection
  Rotation* rotations;           // that the vectors wait for
  int64_t* order;                // rows by eigenvalue
  static int64_t most_rotations(int64_t n) { return 8 * n; }
  static int64_t bytes(int64_t n) {
    return 16 * n * n + 5 * 8 * n + most_rotations(n) * static_cast<int64_t>(sizeof(Rotation));
  }
  Memory(std::byte* base, int64_t n)
      : a(reinterpret_cast<double*>(base)),
        vectors(a + n * n),
        diagonal(vectors + n * n),
        beside(diagonal + n),
        reflected(beside + n),
        strength(reflected + n),
        rotations(reinterpret_cast<Rotation*>(strength + n)),
        order(reinterpret_cast<int64_t*>(rotations + most_rotations(n))) {}
};

// Column k below the diagonal becomes alpha times the first unit vector. The reflection's vector v stays in row k.
template <class Split>
void reflect(const Memory& m, int64_t n, int64_t k, const Split& split) noexcept {
  const int64_t first = k + 1, count = n - first;
  double* const v = m.a + k * n + first;  // the row is the column: both triangles are kept
  const double norm = std::sqrt(dot(v, v, count));
  m.strength[k] = 0, m.beside[k] = norm == 0 ? 0 : v[0] > 0 ? -norm : norm;
  if (norm == 0) return;
  v[0] -= m.beside[k];
  const double strength = m.strength[k] = 2 / dot(v, v, count);
  double* const p = m.reflected;
  split(count, 2 * count, [&](int64_t i) { p[i] = strength * dot(m.a + (first + i) * n + first, v, count); });
  add_scaled(p, v, -0.5 * strength * dot(p, v, count), count);
  split(count, 4 * count, [&](int64_t i) {
    double* const row = m.a + (first + i) * n + first;
    add_scaled(row, p, -v[i], count);
    add_scaled(row, v, -p[i], count);
  });
}

template <class Split>
void make_tridiagonal(const Memory& m, int64_t n, const Split& split) noexcept {
  for (int64_t k = 0; k < n; ++k) {
    m.diagonal[k] = m.a[k * n + k];
    if (k + 2 < n) reflect(m, n, k, split);
  }
  if (n > 1) m.beside[n - 2] = m.a[(n - 2) * n + n - 1];
  m.beside[n - 1] = 0;
}

// Rotates the vectors, which waited until there were enough to go through.
class Rotations {
 public:
  explicit Rotations(const Memory& m, int64_t n) : m_(m), n_(n) {}
  void add(int64_t row, double c, double s) { m_.rotations[count_++] = {row, c, s}; }
  bool full() const { return count_ + n_ > Memory::most_rotations(n_); }
  template <class Split>
  void apply(const Split& split) noexcept {
    constexpr int64_t kColumns = 64;
    if (count_ == 0) return;
    split((n_ + kColumns - 1) / kColumns, 6 * kColumns * count_, [&](int64_t part) {
      const int64_t begin = part * kColumns, end = std::min(n_, begin + kColumns);
      for (int64_t i = 0; i < count_; ++i) {
        const auto& [row, c, s] = m_.rotations[i];
        double* const x = m_.vectors + row * n_ + begin;
        rotate(x, x + n_, c, s, end - begin);
      }
    });
    count_ = 0;
  }

 private:
  const Memory& m_;
  int64_t n_, count_ = 0;
};

// One step of QL on rows [l, last], with a shift near the eigenvalue of row l.
void shift_once(const Memory& m, int64_t l, int64_t last, Rotations& rotations) noexcept {
  double *const d = m.diagonal, *const e = m.beside;
  double g = (d[l + 1] - d[l]) / (2 * e[l]);
  g = d[last] - d[l] + e[l] / (g + std::copysign(std::hypot(g, 1.0), g));
  double s = 1, c = 1, p = 0;
  for (int64_t i = last - 1; i >= l; --i) {
    const double f = s * e[i], b = c * e[i], r = std::hypot(f, g);
    e[i + 1] = r;
    if (r == 0) {  // the matrix falls apart here
      d[i + 1] -= p, e[last] = 0;
      return;
    }
    s = f / r, c = g / r, g = d[i + 1] - p;
    const double t = (d[i] - g) * s + 2 * c * b;
    p = s * t, d[i + 1] = g + p, g = c * t - b;
    rotations.add(i, c, s);
  }
  d[l] -= p, e[l] = g, e[last] = 0;
}

template <class Split>
void make_diagonal(const Memory& m, int64_t n, const Split& split) noexcept {
  const double *const d = m.diagonal, *const e = m.beside;
  double largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max({largest, std::abs(d[i]), std::abs(e[i])});
  const auto apart = [&](int64_t i) {
    return i + 1 >= n ||
           std::abs(e[i]) <= kRounding * std::max(std::abs(d[i]) + std::abs(d[i + 1]), kRounding * largest);
  };
  Rotations rotations(m, n);
  for (int64_t l = 0; l < n; ++l)
    for (int shifts = 0; shifts < kMostShifts; ++shifts) {
      int64_t last = l;
      while (!apart(last)) ++last;
      if (last == l) break;
      shift_once(m, l, last, rotations);
      if (rotations.full()) rotations.apply(split);
    }
  rotations.apply(split);
}

template <class Split>
void solve(const Memory& m, int64_t n, const Split& split) noexcept {
  make_tridiagonal(m, n, split);
  for (int64_t i = 0; i < n * n; ++i) m.vectors[i] = i / n == i % n;
  make_diagonal(m, n, split);
  split(n, 2 * n * n, [&](int64_t i) {
    for (int64_t k = n - 3; k >= 0; --k) {
      double* const to = m.vectors + i * n + k + 1;
      const double* const v = m.a + k * n + k + 1;
      if (m.strength[k] != 0) add_scaled(to, v, -m.strength[k] * dot(to, v, n - k - 1), n - k - 1);
    }
  });
  std::iota(m.order, m.order + n, int64_t{0});
  std::stable_sort(m.order, m.order + n, [&](int64_t x, int64_t y) { return m.diagonal[x] > m.diagonal[y]; });
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
    }
  }
  solve(m, n, [&](int64_t count, int64_t flops, const auto& each) {
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

// Of the rotations, mostly: two or three shifts an eigenvalue, each over half of the vectors, some twice a pass over
// the matrix.
Cost cost(const std::any&, std::span<const Type> in, std::span<const Type>) {
  const auto n = static_cast<double>(in[0].shape[0]);
  return {.bytes = 4 * 8 * n * n * n};
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
