// E4M3: eight bits with four of exponent (bias 7) and three of mantissa; the largest is 448, the least normal 2^-6,
// there are no infinities (Micikevicius et al. 2022, arXiv:2209.05433). Magnitudes only: the sign is the highest bit.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace thimble {

constexpr float kLargestE4m3 = 448;

// x in [0, 448] to the nearest E4M3, ties to even.
inline uint8_t to_e4m3(float x) noexcept {
  if (x < 0x1p-6f) return static_cast<uint8_t>(std::nearbyint(x * 512));  // subnormal: steps of 2^-9
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = bits + 0x7ffff + ((bits >> 20) & 1);
  return static_cast<uint8_t>(std::min<uint32_t>((rounded >> 20) - ((127 - 7) << 3), 0x7e));
}

inline float from_e4m3(uint8_t q) noexcept {
  const uint32_t bits = q & 0x7f;
  if (bits < 8) return static_cast<float>(bits) * 0x1p-9f;
  return std::bit_cast<float>((bits << 20) + ((127 - 7) << 23));
}

}  // namespace thimble
