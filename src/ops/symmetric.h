// Eigenvalues and vectors of a symmetric matrix, in double: made tridiagonal by Householder's reflections, then
// diagonal by the QL algorithm with implicit shifts. What eigh and svd share.
//
//   Source    Golub and Van Loan, Matrix Computations, 4th ed., algorithms 8.3.1 and 8.3.3; Wilkinson's shift
//   Cost      some 2 n^3 operations for the reflections, 9 n^3 for the vectors of the tridiagonal matrix, and 2 n^3 to
//             reflect them back
//   Threads   divide rows of reflections, and columns of the vectors that are rotated: no sum is divided
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "kernels/doubles.h"

namespace thimble {

constexpr int kMostShifts = 60;  // for one eigenvalue; three are usual
constexpr double kRounding = 0x1p-53;

// Of rows `row` and row + 1 of the vectors.
struct PlaneRotation {
  int64_t row;
  double c, s;
};

struct SymmetricMemory {
  double *a, *vectors;           // [n, n]: the matrix, then reflections in its rows; eigenvectors as rows
  double *diagonal, *beside;     // [n]: of the tridiagonal matrix; beside[i] is between i and i + 1
  double *reflected, *strength;  // [n]: A v; 2 / (v . v) of each reflection
  PlaneRotation* rotations;      // that the vectors wait for
  int64_t* order;                // rows by eigenvalue
  static int64_t most_rotations(int64_t n) { return 8 * n; }
  static int64_t bytes(int64_t n) {
    return 16 * n * n + 5 * 8 * n + most_rotations(n) * static_cast<int64_t>(sizeof(PlaneRotation));
  }
  SymmetricMemory(std::byte* base, int64_t n)
      : a(reinterpret_cast<double*>(base)),
        vectors(a + n * n),
        diagonal(vectors + n * n),
        beside(diagonal + n),
        reflected(beside + n),
        strength(reflected + n),
        rotations(reinterpret_cast<PlaneRotation*>(strength + n)),
        order(reinterpret_cast<int64_t*>(rotations + most_rotations(n))) {}
};

// Column k below the diagonal becomes alpha times the first unit vector. The reflection's vector v stays in row k.
template <class Split>
void reflect(const SymmetricMemory& m, int64_t n, int64_t k, const Split& split) noexcept {
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
void make_tridiagonal(const SymmetricMemory& m, int64_t n, const Split& split) noexcept {
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
  explicit Rotations(const SymmetricMemory& m, int64_t n) : m_(m), n_(n) {}
  void add(int64_t row, double c, double s) { m_.rotations[count_++] = {row, c, s}; }
  bool full() const { return count_ + n_ > SymmetricMemory::most_rotations(n_); }
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
  const SymmetricMemory& m_;
  int64_t n_, count_ = 0;
};

// One step of QL on rows [l, last], with a shift near the eigenvalue of row l.
inline void shift_once(const SymmetricMemory& m, int64_t l, int64_t last, Rotations& rotations) noexcept {
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
void make_diagonal(const SymmetricMemory& m, int64_t n, const Split& split) noexcept {
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

// m.a [n, n], both triangles -> m.vectors, rows; m.diagonal, their values; m.order, the largest value first. m.a is
// lost. split(count, flops, each) calls each(i) for i in [0, count), of so many operations, on any threads.
template <class Split>
void solve_symmetric(const SymmetricMemory& m, int64_t n, const Split& split) noexcept {
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

}  // namespace thimble
