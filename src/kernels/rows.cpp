#include "kernels/rows.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/math.h"
#include "kernels/register_lanes.h"

namespace thimble {
namespace {

static_assert(kLanes == kSumLanes);

THIMBLE_BODY float fold(const float* lanes) noexcept {
  float s[kLanes];
  std::copy(lanes, lanes + kLanes, s);
  for (int width = kLanes / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) s[i] += s[i + width];
  return s[0];
}

constexpr float kInverseSqrt2 = 0.70710678118f;
constexpr float kInverseSqrt2Pi = 0.39894228040f;
constexpr float kTanhScale = 0.79788456080f;  // sqrt(2 / pi)

// f(x) and f'(x).
struct Silu {
  static float value(float x) noexcept { return x * sigmoid_f32(x); }
  static float slope(float x) noexcept {
    const float s = sigmoid_f32(x);
    return s * (1.0f + x * (1.0f - s));
  }
};
struct Gelu {
  static float value(float x) noexcept { return 0.5f * x * (1.0f + std::erf(x * kInverseSqrt2)); }
  static float slope(float x) noexcept {
    return 0.5f * (1.0f + std::erf(x * kInverseSqrt2)) + x * kInverseSqrt2Pi * exp_f32(-0.5f * x * x);
  }
};
struct GeluTanh {
  static float value(float x) noexcept {
    return 0.5f * x * (1.0f + tanh_f32(kTanhScale * (x + 0.044715f * x * x * x)));
  }
  static float slope(float x) noexcept {
    const float t = tanh_f32(kTanhScale * (x + 0.044715f * x * x * x));
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * kTanhScale * (1.0f + 0.134145f * x * x);
  }
};
// What is not a number stays so: damage shows in the loss.
struct Relu {
  static float value(float x) noexcept { return x <= 0 ? 0 : x; }
  static float slope(float x) noexcept { return x > 0 ? 1.0f : 0.0f; }
};

struct ReluSquared {
  static float value(float x) noexcept { return x <= 0 ? 0 : x * x; }
  static float slope(float x) noexcept { return x > 0 ? 2 * x : 0; }
};

THIMBLE_BODY void shape_scores_body(float* values, const ScoreShape& shape, int64_t n) noexcept {
  const float inside = shape.cap > 0 ? shape.by / shape.cap : shape.by, outside = 1 / shape.over;
  if (shape.cap > 0)
    for (int64_t i = 0; i < n; ++i) values[i] = shape.cap * tanh_f32(inside * values[i]);
  else
    for (int64_t i = 0; i < n; ++i) values[i] *= inside;
  if (shape.bias)
    for (int64_t i = 0; i < n; ++i) values[i] += shape.bias[i];
  if (shape.over != 1)
    for (int64_t i = 0; i < n; ++i) values[i] *= outside;
}

THIMBLE_BODY void multiply_cap_slope_body(float* to, const float* values, float cap, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    const float t = values[i] / cap;
    to[i] *= 1 - t * t;
  }
}

template <class F>
THIMBLE_BODY void apply(const float* gate, const float* up, float* y, int64_t n) noexcept {
  if (up)
    for (int64_t i = 0; i < n; ++i) y[i] = F::value(gate[i]) * up[i];
  else
    for (int64_t i = 0; i < n; ++i) y[i] = F::value(gate[i]);
}

template <class F>
THIMBLE_BODY void differentiate(const float* dy, const float* gate, const float* up, float* dgate, float* dup,
                                int64_t n) noexcept {
  if (up)
    for (int64_t i = 0; i < n; ++i) {
      const float g = gate[i], d = dy[i], u = up[i];
      dgate[i] = d * u * F::slope(g);
      dup[i] = d * F::value(g);
    }
  else
    for (int64_t i = 0; i < n; ++i) dgate[i] = dy[i] * F::slope(gate[i]);
}

THIMBLE_BODY float dot_body(const float* a, const float* b, int64_t n) noexcept {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] += a[i + l] * b[i + l];
  for (int l = 0; i < n; ++i, ++l) lanes[l] += a[i] * b[i];
  return fold(lanes);
}

THIMBLE_BODY float sum_body(const float* a, int64_t n) noexcept {
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] += a[i + l];
  for (int l = 0; i < n; ++i, ++l) lanes[l] += a[i];
  return fold(lanes);
}

THIMBLE_BODY float max_body(const float* a, int64_t n) noexcept {
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, a[0]);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] = a[i + l] > lanes[l] ? a[i + l] : lanes[l];
  for (; i < n; ++i) lanes[0] = a[i] > lanes[0] ? a[i] : lanes[0];
  return *std::max_element(lanes, lanes + kLanes);
}

// Of infinities and NaN all bits of the exponent are set.
THIMBLE_BODY bool all_finite_body(const float* a, int64_t n) noexcept {
  constexpr uint32_t kInfinity = 0x7f800000, kMagnitude = 0x7fffffff;
  uint32_t largest = 0;
  for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(a[i]) & kMagnitude);
  return largest < kInfinity;
}

THIMBLE_BODY void mark_at_least_body(const float* __restrict a, float bound, int64_t n,
                                     uint8_t* __restrict marks) noexcept {
  for (int64_t i = 0; i < n; ++i) marks[i] |= static_cast<uint8_t>(a[i] >= bound);
}

THIMBLE_BODY void add_scaled_body(float* __restrict to, const float* __restrict from, float by, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) to[i] += by * from[i];
}

THIMBLE_BODY void multiply_body(float* __restrict to, const float* __restrict by, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) to[i] *= by[i];
}

THIMBLE_BODY void scale_body(float* to, float by, int64_t n) noexcept {
  for (int64_t i = 0; i < n; ++i) to[i] *= by;
}

THIMBLE_BODY void exp_sum_lanes_body(const float* values, float shift, int64_t n, float* lanes, float* to) noexcept {
  for (int64_t i = 0; i < n; ++i) to[i] = exp_f32(values[i] - shift);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int l = 0; l < kLanes; ++l) lanes[l] += to[i + l];
  for (int l = 0; i < n; ++i, ++l) lanes[l] += to[i];
}

THIMBLE_BODY void softmax_row_body(const float* values, float lse, float by, int64_t n, float* to) noexcept {
  for (int64_t i = 0; i < n; ++i) to[i] = exp_f32(values[i] - lse) * by;
}

template <Weights form, int bytes>
THIMBLE_BODY void store_weights(const RegisterLanes<bytes>& x, float* over, uint16_t* bf16, int64_t i) noexcept {
  if constexpr (form == Weights::bf16)
    store_bf16(x, bf16 + i);
  else
    store(form == Weights::rounded ? rounded(x) : x, over + i);
}

// body.template operator()<form>()
template <class Body>
THIMBLE_BODY auto with(Weights form, const Body& body) noexcept {
  switch (form) {
    case Weights::f32:
      return body.template operator()<Weights::f32>();
    case Weights::rounded:
      return body.template operator()<Weights::rounded>();
    case Weights::bf16:
      break;
  }
  return body.template operator()<Weights::bf16>();
}

template <Weights form, int bytes>
THIMBLE_BODY float attention_row_as(float* s, uint16_t* bf16, int64_t n, float by, float& largest,
                                    float& sum) noexcept {
  using In = RegisterLanes<bytes>;
  In most = load<In>(s);
  for (int64_t i = kLanes; i < n; i += kLanes) most = at_least(load<In>(s + i), most);
  const float now = std::max(largest, largest_lane(most) * by), by2 = by * kLog2E, now2 = now * kLog2E;
  In sums{};
  for (int64_t i = 0; i < n; i += kLanes) {
    const In e = exp2_lanes(load<In>(s + i) * by2 - now2);
    sums = sums + e;
    store_weights<form>(e, s, bf16, i);
  }
  const float shrink = largest == now ? 1 : exp_f32(largest - now);
  sum = sum * shrink + thimble::fold(sums);
  largest = now;
  return shrink;
}

template <Weights form, int bytes>
THIMBLE_BODY void attention_gradient_row_as(const AttentionGradientRow& row) noexcept {
  using In = RegisterLanes<bytes>;
  constexpr float kNumbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  constexpr float kHidden = 1000, kMost = 1e30f;  // 2^-1000 is 0; what was not computed may be anything
  const In numbers = load<In>(kNumbers);
  for (int64_t i = 0; i < row.n; i += kLanes) {
    In power = load<In>(row.s + i) * row.scale2 - load<In>(row.lse + i);
    In slope = load<In>(row.dp + i) - load<In>(row.delta + i);
    if (row.first) {
      const In before = at_most(numbers + (row.query + static_cast<float>(i)) - row.key, In{});
      const In after = at_most(all<In>(row.key) - load<In>(row.first + i), In{});
      power = at_most(power, all<In>(120.0f)) + (before + after) * kHidden;
      slope = at_most(at_least(slope, all<In>(-kMost)), all<In>(kMost));
    }
    const In p = exp2_lanes(power), ds = p * slope * row.scale;
    store_weights<form>(p, row.s, row.p16, i);
    store_weights<form>(ds, row.dp, row.ds16, i);
  }
}

template <int bytes>
THIMBLE_BODY float attention_row_body(float* s, Weights form, uint16_t* bf16, int64_t n, float by, float& largest,
                                      float& sum) noexcept {
  return with(
      form, [&]<Weights as>()
                __attribute__((always_inline)) { return attention_row_as<as, bytes>(s, bf16, n, by, largest, sum); });
}

template <int bytes>
THIMBLE_BODY void attention_gradient_row_body(const AttentionGradientRow& row) noexcept {
  with(
      row.form, [&]<Weights as>() __attribute__((always_inline)) { attention_gradient_row_as<as, bytes>(row); });
}

THIMBLE_BODY void activate_body(Activation kind, const float* __restrict gate, const float* __restrict up,
                                float* __restrict y, int64_t n) noexcept {
  switch (kind) {
    case Activation::silu:
      return apply<Silu>(gate, up, y, n);
    case Activation::gelu:
      return apply<Gelu>(gate, up, y, n);
    case Activation::gelu_tanh:
      return apply<GeluTanh>(gate, up, y, n);
    case Activation::relu:
      return apply<Relu>(gate, up, y, n);
    case Activation::relu_squared:
      return apply<ReluSquared>(gate, up, y, n);
  }
}

THIMBLE_BODY void activate_gradient_body(Activation kind, const float* __restrict dy, const float* __restrict gate,
                                         const float* __restrict up, float* __restrict dgate, float* __restrict dup,
                                         int64_t n) noexcept {
  switch (kind) {
    case Activation::silu:
      return differentiate<Silu>(dy, gate, up, dgate, dup, n);
    case Activation::gelu:
      return differentiate<Gelu>(dy, gate, up, dgate, dup, n);
    case Activation::gelu_tanh:
      return differentiate<GeluTanh>(dy, gate, up, dgate, dup, n);
    case Activation::relu:
      return differentiate<Relu>(dy, gate, up, dgate, dup, n);
    case Activation::relu_squared:
      return differentiate<ReluSquared>(dy, gate, up, dgate, dup, n);
  }
}

}  // namespace

float dot(const float* a, const float* b, int64_t n) noexcept { return dispatched<dot_body>(a, b, n); }
float sum(const float* a, int64_t n) noexcept { return dispatched<sum_body>(a, n); }
float max(const float* a, int64_t n) noexcept { return dispatched<max_body>(a, n); }
bool all_finite(const float* a, int64_t n) noexcept { return dispatched<all_finite_body>(a, n); }
void mark_at_least(const float* a, float bound, int64_t n, uint8_t* marks) noexcept {
  dispatched<mark_at_least_body>(a, bound, n, marks);
}
void add_scaled(float* to, const float* from, float by, int64_t n) noexcept {
  dispatched<add_scaled_body>(to, from, by, n);
}
void shape_scores(float* values, const ScoreShape& shape, int64_t n) noexcept {
  dispatched<shape_scores_body>(values, shape, n);
}
void multiply_cap_slope(float* to, const float* values, float cap, int64_t n) noexcept {
  dispatched<multiply_cap_slope_body>(to, values, cap, n);
}
void multiply(float* to, const float* by, int64_t n) noexcept { dispatched<multiply_body>(to, by, n); }
void scale(float* to, float by, int64_t n) noexcept { dispatched<scale_body>(to, by, n); }
void exp_sum_lanes(const float* values, float shift, int64_t n, float* lanes, float* to) noexcept {
  dispatched<exp_sum_lanes_body>(values, shift, n, lanes, to);
}
void softmax_row(const float* values, float lse, float by, int64_t n, float* to) noexcept {
  dispatched<softmax_row_body>(values, lse, by, n, to);
}
float attention_row(float* s, Weights form, uint16_t* bf16, int64_t n, float by, float& largest, float& sum) noexcept {
  return dispatched<attention_row_body<64>, attention_row_body<32>, attention_row_body<16>>(s, form, bf16, n, by,
                                                                                            largest, sum);
}
void attention_gradient_row(const AttentionGradientRow& row) noexcept {
  dispatched<attention_gradient_row_body<64>, attention_gradient_row_body<32>, attention_gradient_row_body<16>>(row);
}
void activate(Activation kind, const float* gate, const float* up, float* y, int64_t n) noexcept {
  dispatched<activate_body>(kind, gate, up, y, n);
}
void activate_gradient(Activation kind, const float* dy, const float* gate, const float* up, float* dgate, float* dup,
                       int64_t n) noexcept {
  dispatched<activate_gradient_body>(kind, dy, gate, up, dgate, dup, n);
}

float fold_lanes(const float* lanes) noexcept { return fold(lanes); }

float exp_sum(float* values, float shift, int64_t n) noexcept {
  float lanes[kLanes] = {};
  exp_sum_lanes(values, shift, n, lanes, values);
  return fold(lanes);
}

}  // namespace thimble
