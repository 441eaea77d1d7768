// Loops over one row, compiled for each instruction set. Sums are taken in 16 fixed lanes and then over the lanes, so
// every instruction set gives the same bits.
#pragma once

#include <cstdint>

namespace thimble {

float dot(const float* a, const float* b, int64_t n) noexcept;
float sum(const float* a, int64_t n) noexcept;
float max(const float* a, int64_t n) noexcept;  // n >= 1
bool all_finite(const float* a, int64_t n) noexcept;
void mark_at_least(const float* a, float bound, int64_t n, uint8_t* marks) noexcept;  // marks[i] |= a[i] >= bound

void add_scaled(float* to, const float* from, float scale, int64_t n) noexcept;  // to += scale * from
void multiply(float* to, const float* by, int64_t n) noexcept;                   // to *= by
void scale(float* to, float by, int64_t n) noexcept;

// values[i] = exp(values[i] - shift); returns their sum.
float exp_sum(float* values, float shift, int64_t n) noexcept;

// to[i] = exp(values[i] - shift), added to 16 running sums, one a lane: the order of PyTorch's log_softmax over a long
// row in pieces (but the last, of a multiple of 16). `to` may be `values`.
constexpr int kSumLanes = 16;
void exp_sum_lanes(const float* values, float shift, int64_t n, float* lanes, float* to) noexcept;
float fold_lanes(const float* lanes) noexcept;

// to[i] = exp(values[i] - lse) * by: the softmax of a row of logits whose log-sum-exp is known.
void softmax_row(const float* values, float lse, float by, int64_t n, float* to) noexcept;

constexpr float kLog2E = 1.44269504089f;

// How the weights of attention are left: over the scores as they are, or rounded to bf16; or as bf16 beside them.
enum class Weights { f32, rounded, bf16 };

// Takes n scores of one query (n a multiple of 16, hidden ones -infinity, not all) into its running softmax: largest
// and sum are the maximum of scale * s and the sum of exp(scale * s - largest) so far. Leaves the weights exp(scale * s
// - largest) over s, or in bf16. Returns the factor that earlier weights shrink by.
float attention_row(float* s, Weights form, uint16_t* bf16, int64_t n, float scale, float& largest,
                    float& sum) noexcept;

// The gradient of one key's row of a tile of attention whose log-sum-exp is known, over n queries (a multiple of 16):
//   p = exp(scale s - lse), ds = p (dp - delta) scale       (Dao et al. 2022, arXiv:2205.14135, Algorithm 4)
// Written over s and dp, or to p16 and ds16.
struct AttentionGradientRow {
  float *s, *dp;
  const float *lse, *delta;  // lse in powers of two: log2(e) times the natural one
  // Numbers, as floats (exact up to 2^24): of the first key that each query sees (nullptr: all see this key), of the
  // first query, and of the key. A query sees no key beyond its own number.
  const float* first;
  float query, key;
  float scale, scale2;  // scale2 = log2(e) scale
  int64_t n;
  Weights form;
  uint16_t *p16, *ds16;
};
void attention_gradient_row(const AttentionGradientRow& row) noexcept;

// values[i] = (cap tanh(by values[i] / cap) + bias[i]) / over. cap 0: by values[i] as it is; bias nullptr: 0.
struct ScoreShape {
  float by = 1, cap = 0;
  const float* bias = nullptr;
  float over = 1;
};
void shape_scores(float* values, const ScoreShape& shape, int64_t n) noexcept;
// to[i] *= 1 - (values[i] / cap)^2: the slope of cap tanh(x / cap) where it is values[i].
void multiply_cap_slope(float* to, const float* values, float cap, int64_t n) noexcept;

enum class Activation { silu, gelu, gelu_tanh, relu, relu_squared };
// y = f(gate) * up; without up (nullptr) y = f(gate).
void activate(Activation kind, const float* gate, const float* up, float* y, int64_t n) noexcept;
// dgate = dy * up * f'(gate); dup = dy * f(gate) (dup may be nullptr with up).
void activate_gradient(Activation kind, const float* dy, const float* gate, const float* up, float* dgate, float* dup,
                       int64_t n) noexcept;

}  // namespace thimble
