#pragma once

#include <bit>
#include <cstdint>

namespace thimble {

// The bits of core/half.h's f32_to_bf16, without a branch, so that loops over it become vector code.
inline uint32_t round_bf16(float value) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet_nan = (bits >> 16) | 0x40u;
  return (bits & 0x7fffffffu) > 0x7f800000u ? quiet_nan : rounded;
}

}  // namespace thimble
