// What weigh_layers shares with its gradient and its derivative along a direction: the numbers of one token.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "ops/rows.h"

namespace thimble::weighing {

inline constexpr double kEpsilon = 1e-8;  // added to V, as the authors do; rows shorter than it are no direction

// One token: n rows of d numbers in memory of its own.
template <class T>
class Token {
 public:
  // Numbers that it wants, in the order below.
  static int64_t size(int64_t n, int64_t d) { return (3 * n + 3) * d + n * n + 6 * n; }
  Token(T* memory, int64_t n, int64_t d)
      : n(n),
        d(d),
        q(memory),
        dy(q + d),
        y(dy + d),
        x(y + d),
        unit(x + n * d),
        dx(unit + n * d),
        cosine(dx + n * d),
        length(cosine + n * n),
        p(length + n),
        redundancy(p + n),
        weight(redundancy + n),
        share(weight + n),
        dr(share + n) {}

  // y, of q and x.
  void weigh() noexcept {
    for (int64_t i = 0; i < n; ++i) {
      const T* const row = x + i * d;
      length[i] = std::sqrt(dot(row, row));
      const T by = length[i] > kEpsilon ? 1 / length[i] : 0;
      for (int64_t c = 0; c < d; ++c) unit[i * d + c] = row[c] * by;
    }
    total_ = static_cast<T>(kEpsilon);
    for (int64_t i = 0; i < n; ++i) {
      redundancy[i] = 1;
      for (int64_t j = 0; j < n; ++j) {
        if (j == i) continue;
        if (j > i) cosine[i * n + j] = cosine[j * n + i] = dot(unit + i * d, unit + j * d);
        redundancy[i] += std::max<T>(cosine[i * n + j], 0);
      }
      p[i] = dot(q, x + i * d);
      weight[i] = std::max<T>(p[i], 0) / redundancy[i];
      total_ += weight[i];
    }
    std::fill_n(y, d, T{0});
    for (int64_t i = 0; i < n; ++i) {
      share[i] = weight[i] / total_;
      add(y, x + i * d, share[i]);
    }
  }

  // dx, and dq over y, of dy and what weigh() has left.
  void differentiate() noexcept {
    T mean = 0;
    for (int64_t i = 0; i < n; ++i) mean += share[i] * dot(dy, x + i * d);
    std::fill_n(y, d, T{0});
    for (int64_t i = 0; i < n; ++i) {
      const T dweight = (dot(dy, x + i * d) - mean) / total_;
      const T dp = p[i] > 0 ? dweight / redundancy[i] : 0;
      dr[i] = -dweight * weight[i] / redundancy[i];
      add(y, x + i * d, dp);
      for (int64_t c = 0; c < d; ++c) dx[i * d + c] = share[i] * dy[c] + dp * q[c];
    }
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        if (j == i || cosine[i * n + j] <= 0 || length[i] <= kEpsilon) continue;
        const T by = (dr[i] + dr[j]) / length[i];
        add(dx + i * d, unit + j * d, by);
        add(dx + i * d, unit + i * d, -by * cosine[i * n + j]);
      }
  }

  // y' over y, given what weigh() has left and the derivatives along a direction: of q in dy, of x in dx.
  void move() noexcept {
    T sum = 0;
    for (int64_t i = 0; i < n; ++i) {
      T of_redundancy = 0;
      for (int64_t j = 0; j < n; ++j)
        if (j != i && cosine[i * n + j] > 0) of_redundancy += turn(i, j) + turn(j, i);
      const T of_product = p[i] > 0 ? dot(dy, x + i * d) + dot(q, dx + i * d) : 0;
      dweight[i] = (of_product - weight[i] * of_redundancy) / redundancy[i];
      sum += dweight[i];
    }
    std::fill_n(y, d, T{0});
    for (int64_t i = 0; i < n; ++i) {
      add(y, x + i * d, (dweight[i] - share[i] * sum) / total_);
      add(y, dx + i * d, share[i]);
    }
  }

  const int64_t n, d;
  T *q, *dy, *y, *x, *unit, *dx, *cosine, *length, *p, *redundancy, *weight, *share, *dr;
  T* const dweight = dr;  // the two are not wanted together

 private:
  // u_i' . u_j
  T turn(int64_t i, int64_t j) const noexcept {
    const T* const moved = dx + i * d;
    return (dot(moved, unit + j * d) - cosine[i * n + j] * dot(moved, unit + i * d)) / length[i];
  }
  T dot(const T* a, const T* b) const noexcept {
    if constexpr (std::is_same_v<T, float>) {
      return thimble::dot(a, b, d);
    } else {
      T sum = 0;
      for (int64_t c = 0; c < d; ++c) sum += a[c] * b[c];
      return sum;
    }
  }
  void add(T* to, const T* from, T by) const noexcept {
    if constexpr (std::is_same_v<T, float>)
      add_scaled(to, from, by, d);
    else
      for (int64_t c = 0; c < d; ++c) to[c] += by * from[c];
  }
  T total_ = 0;
};

inline void copy_row(const Operand& operand, int64_t r, int64_t d, float* to) noexcept {
  const float* const row = read_row(operand, r, d, to);
  if (row != to) std::copy_n(row, d, to);
}

}  // namespace thimble::weighing
