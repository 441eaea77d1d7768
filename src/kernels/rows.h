// Loops over one row, compiled for each instruction set. Sums are taken in 16 fixed lanes and then over the lanes, so
// every instruction set gives the same bits.
#pragma once

#include <cstdint>

namespace thimble {

float dot(const float* a, const float* b, int64_t n) noexcept;
float sum(const float* a, int64_t n) noexcept;
float max(const float* a, int64_t n) noexcept;  // n >= 1

void add_scaled(float* to, const float* from, float scale, int64_t n) noexcept;  // to += scale * from
void multiply(float* to, const float* by, int64_t n) noexcept;                   // to *= by
void scale(float* to, float by, int64_t n) noexcept;

// values[i] = exp(values[i] - shift); returns their sum.
float exp_sum(float* values, float shift, int64_t n) noexcept;

// The same, into 16 running sums, one a lane: the order of PyTorch's log_softmax over a long row in pieces.
constexpr int kSumLanes = 16;
void exp_sum_lanes(float* values, float shift, int64_t n, float* lanes) noexcept;
float fold_lanes(const float* lanes) noexcept;

// values[i] = exp(values[i] - lse[i]) * by: the softmax of logits whose log-sum-exp is known.
void softmax_row(float* values, const float* lse, float by, int64_t n) noexcept;

// Softmax of scores whose log-sum-exp is known, and its gradient (Dao et al. 2022, arXiv:2205.14135, Algorithm 4):
//   p[i] = exp(s[i] * scale - lse[i]);  ds[i] = p[i] * (dp[i] - delta[i]) * scale, both written over their inputs.
void softmax_gradient(float* s, float* dp, const float* lse, const float* delta, float scale, int64_t n) noexcept;

enum class Activation { silu, gelu, gelu_tanh, relu };
// y = f(gate) * up; without up (nullptr) y = f(gate).
void activate(Activation kind, const float* gate, const float* up, float* y, int64_t n) noexcept;
// dgate = dy * up * f'(gate); dup = dy * f(gate) (dup may be nullptr with up).
void activate_gradient(Activation kind, const float* dy, const float* gate, const float* up, float* dgate, float* dup,
                       int64_t n) noexcept;

}  // namespace thimble
