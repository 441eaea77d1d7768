#include "kernels/doubles.h"

#include "codecs/dispatch.h"

namespace thimble {
namespace {

THIMBLE_BODY double dot_body(const double* __restrict a, const double* __restrict b, int64_t n) noexcept {
  constexpr int64_t kLanes = 8;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int64_t k = 0; k < kLanes; ++k) lanes[k] += a[i + k] * b[i + k];
  for (int64_t k = 0; i < n; ++i, ++k) lanes[k] += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

template <class From>
THIMBLE_BODY void add_scaled_body(double* __restrict to, const From* __restrict from, double by, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) to[i] += by * static_cast<double>(from[i]);
}

THIMBLE_BODY void rotate_body(double* __restrict x, double* __restrict y, double c, double s, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    const double was = x[i];
    x[i] = c * was - s * y[i];
    y[i] = s * was + c * y[i];
  }
}

}  // namespace

double dot(const double* a, const double* b, int64_t n) noexcept { return dispatched<dot_body>(a, b, n); }
void add_scaled(double* to, const double* from, double by, int64_t n) noexcept {
  dispatched<add_scaled_body<double>>(to, from, by, n);
}
void add_scaled(double* to, const float* from, double by, int64_t n) noexcept {
  dispatched<add_scaled_body<float>>(to, from, by, n);
}
void rotate(double* x, double* y, double c, double s, int64_t n) noexcept { dispatched<rotate_body>(x, y, c, s, n); }

}  // namespace thimble
