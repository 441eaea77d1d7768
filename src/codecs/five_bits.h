// The fifth bits of 32 codes, as q5_0 and q5_1 keep them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace thimble {

// bytes[i] becomes nonzero where bit i of the little-endian word at `from` is set. A byte is copied to eight and each
// copy masked, because vector code has no shift by a different count for each byte.
inline void spread_bits(const std::byte* from, uint8_t* bytes) noexcept {
  for (int i = 0; i < 4; ++i) {
    const uint64_t copies = std::to_integer<uint64_t>(from[i]) * 0x0101010101010101u;
    const uint64_t masked = copies & 0x8040201008040201u;
    std::memcpy(bytes + 8 * i, &masked, 8);
  }
}

}  // namespace thimble
