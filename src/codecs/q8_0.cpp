// q8_0: 32 signed bytes and their scale, as in GGUF.
//
//   Block   34 bytes   | d: f16 | q[32]: int8 |
//   Value   x[i] = d * q[i]
//   Encode  d = max|x| / 127, q = x / d rounded to nearest, halves away from zero
//   Error   half a step, max|x| / 254; d is rounded to f16 (a relative 2^-11), which moves a value by at most
//           max|x| * 2^-11. Below max|x| = 2^-7 or so d is a subnormal f16 and the bound no longer holds.
#include <algorithm>
#include <cmath>

#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 32;
constexpr int kBytes = 34;

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const float d = load_f16(from);
    const auto* const q = reinterpret_cast<const int8_t*>(from + 2);
#pragma GCC unroll 1  // unrolled, GCC 12 makes scalars of it where vectors have 256 bits
    for (int i = 0; i < kBlock; ++i) to[i] = static_cast<float>(q[i]) * d;
  }
}

// Truncation, then one step further where the rest is at least a half: the result of std::round in vector code.
// Only what is not finite lies beyond +-127; it is brought into range, as an int could not hold it.
inline int32_t round_half_away(float value) noexcept {
  value = value > -127.0f ? value : -127.0f;
  value = value < 127.0f ? value : 127.0f;
  const int32_t whole = static_cast<int32_t>(value);
  const float rest = value - static_cast<float>(whole);
  return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    // Magnitudes compare as their bits do, and an integer maximum may be taken in any order.
    uint32_t largest = 0;
    for (int i = 0; i < kBlock; ++i) {
      uint32_t bits;
      std::memcpy(&bits, from + i, 4);
      largest = std::max(largest, bits & 0x7fffffffu);
    }
    float magnitude;
    std::memcpy(&magnitude, &largest, 4);
    const float d = magnitude / 127;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    store_f16(d, to);
    int8_t q[kBlock];
    for (int i = 0; i < kBlock; ++i) q[i] = static_cast<int8_t>(round_half_away(from[i] * inverse));
    std::memcpy(to + 2, q, kBlock);
  }
}

}  // namespace

const Codec kQ8_0 = {
    .name = "q8_0",
    .description = "8 bits, blocks of 32 with an f16 scale (GGUF)",
    .block = kBlock,
    .block_bytes = kBytes,
    .gguf_type = 8,
    .max_error = 1.0 / 254 + 0x1p-11,
    .decode = dispatched<decode_blocks>,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
