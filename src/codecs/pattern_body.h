// How a block of pattern.h is unpacked, for kernel bodies of dispatch.h: one shuffle of bytes for eight elements.
#pragma once

#include "codecs/dispatch.h"
#include "codecs/pattern.h"

// Vectors pass between functions that are always inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace thimble::in_2_4 {

using Eight = uint16_t __attribute__((vector_size(16), aligned(1), may_alias));
constexpr int kInByte = 8;  // elements, half of them with a value

// Where the 16 bytes of eight elements come from: the four values that a byte of the mask is for, and behind them
// zeros. A mask of more bits than values reads zeros, too.
struct alignas(64) Sources {
  uint8_t of[256][2 * kInByte];
};
inline constexpr Sources kSources = [] {
  constexpr uint8_t kZero = 15;
  Sources sources{};
  for (int mask = 0; mask < 256; ++mask)
    for (int i = 0, value = 0; i < kInByte; ++i) {
      const bool has = mask >> i & 1 && value < kInByte / 2;
      for (int byte = 0; byte < 2; ++byte)
        sources.of[mask][2 * i + byte] = has ? static_cast<uint8_t>(2 * value + byte) : kZero;
      value += has;
    }
  return sources;
}();

// Elements [8 i, 8 i + 8) of a block, 16 bits each.
THIMBLE_BODY Eight unpack_eight(const std::byte* block, int i) noexcept {
  using Bytes = uint8_t __attribute__((vector_size(16), may_alias));
  using Words = uint64_t __attribute__((vector_size(16), may_alias));
  uint64_t values;
  std::memcpy(&values, block + kMaskBytes + kInByte * i, 8);
  const Words words = {values, 0};
  const Bytes sources = *reinterpret_cast<const Bytes*>(kSources.of[std::to_integer<int>(block[i])]);
#if defined(__clang__)  // which has no shuffle by a variable
  Bytes out;
  for (int j = 0; j < 16; ++j) out[j] = reinterpret_cast<const Bytes&>(words)[sources[j] & 15];
#else
  const Bytes out = __builtin_shuffle(reinterpret_cast<const Bytes&>(words), sources);
#endif
  return reinterpret_cast<const Eight&>(out);
}

}  // namespace thimble::in_2_4
