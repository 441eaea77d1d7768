// Sixteen floats at once in GCC's vector extension: what a compiler turns into one AVX-512, two AVX2 or four SSE
// registers, with the same bits. For use inside functions marked CLONES.
#pragma once

#include <cstdint>

namespace thimble {

constexpr int64_t kLaneCount = 16;
using Lanes = float __attribute__((vector_size(64), aligned(4), may_alias));
using IntLanes = int32_t __attribute__((vector_size(64), aligned(4), may_alias));
using HalfLanes = uint16_t __attribute__((vector_size(32), aligned(2), may_alias));

// Always inline: how the vectors would be passed does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"
#define LANES_INLINE __attribute__((always_inline)) inline

LANES_INLINE Lanes& lanes_at(float* p) { return *reinterpret_cast<Lanes*>(p); }
LANES_INLINE const Lanes& lanes_at(const float* p) { return *reinterpret_cast<const Lanes*>(p); }
LANES_INLINE const IntLanes& lanes_at(const int32_t* p) { return *reinterpret_cast<const IntLanes*>(p); }

// exp(x) of kernels/math.h, element by element the same.
LANES_INLINE Lanes exp_lanes(Lanes x) {
  constexpr float kMost = 88.7f, kLeast = -87.3f;
  Lanes clamped = x > kMost ? Lanes{} + kMost : x;
  clamped = x < kLeast ? Lanes{} + kLeast : clamped;
  const Lanes shifted = clamped * 1.44269504089f + 12582912.0f;
  const Lanes n = shifted - 12582912.0f;
  const Lanes r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  Lanes p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Lanes y = p * r * r + r + 1.0f;
  const Lanes power = reinterpret_cast<Lanes>((__builtin_convertvector(n, IntLanes) + 127) << 23);
  return x < kLeast ? Lanes{} : y * power;
}

// Rounded to nearest even, as round_bf16() of finite numbers.
LANES_INLINE void store_bf16(Lanes x, uint16_t* to) {
  using Bits = uint32_t __attribute__((vector_size(64)));
  const Bits bits = reinterpret_cast<Bits>(x);
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  *reinterpret_cast<HalfLanes*>(to) = __builtin_convertvector(rounded, HalfLanes);
}

}  // namespace thimble
