// Sixteen floats at once in GCC's vector extension: what a compiler turns into one AVX-512, two AVX2 or four SSE
// registers, with the same bits. For use inside functions marked CLONES.
#pragma once

#include <cstdint>

namespace thimble {

constexpr int64_t kLaneCount = 16;
using Lanes = float __attribute__((vector_size(64), aligned(4), may_alias));
using HalfLanes = uint16_t __attribute__((vector_size(32), aligned(2), may_alias));

// Always inline: how the vectors would be passed does not matter.
#pragma GCC diagnostic ignored "-Wpsabi"
#define LANES_INLINE __attribute__((always_inline)) inline

LANES_INLINE Lanes& lanes_at(float* p) { return *reinterpret_cast<Lanes*>(p); }
LANES_INLINE const Lanes& lanes_at(const float* p) { return *reinterpret_cast<const Lanes*>(p); }

// 2^x for x below 128; 0 from -127 down. A polynomial of degree 6 for the fraction (relative error below 2e-7).
LANES_INLINE Lanes exp2_lanes(Lanes x) {
  using Bits = uint32_t __attribute__((vector_size(64)));
  const Lanes clamped = x > -127.0f ? x : Lanes{} - 127.0f;
  const Lanes shifted = clamped + 12582912.0f;  // 1.5 * 2^23: rounds to an integer, which ends up in the lowest bits
  const Lanes r = clamped - (shifted - 12582912.0f);
  Lanes p = 1.535336188e-4f * r + 1.339887440e-3f;
  p = p * r + 9.618437357e-3f;
  p = p * r + 5.550332471e-2f;
  p = p * r + 2.402264791e-1f;
  p = p * r + 6.931472029e-1f;
  p = p * r + 1.0f;
  return p * reinterpret_cast<Lanes>((reinterpret_cast<Bits>(shifted) + 127u) << 23);
}

// Rounded to nearest even, as round_bf16() of finite numbers.
LANES_INLINE void store_bf16(Lanes x, uint16_t* to) {
  using Bits = uint32_t __attribute__((vector_size(64)));
  const Bits bits = reinterpret_cast<Bits>(x);
  const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  *reinterpret_cast<HalfLanes*>(to) = __builtin_convertvector(rounded, HalfLanes);
}

}  // namespace thimble
