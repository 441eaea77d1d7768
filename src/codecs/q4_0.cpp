// q4_0: 32 nibbles and their scale, as in GGUF.
//
//   Block   18 bytes   | d: f16 | q[16] |    q[i] = code of x[i] | code of x[i + 16] << 4
//   Value   x[i] = d * (code - 8)
//   Encode  d = x[j] / -8 for the first x[j] of largest magnitude; code = x / d + 8 rounded to nearest, at most 15
//   Error   the side opposite to x[j] ends one step early: a step, max|x| / 8, where the rest has half a step.
//           Rounding d to f16 moves a value by at most max|x| * 2^-11 more.
#include <cmath>

#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 32;
constexpr int kHalf = kBlock / 2;
constexpr int kBytes = 18;

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const float d = load_f16(from);
    uint8_t q[kHalf];
    std::memcpy(q, from + 2, kHalf);
    for (int i = 0; i < kHalf; ++i) to[i] = static_cast<float>((q[i] & 15) - 8) * d;
    for (int i = 0; i < kHalf; ++i) to[i + kHalf] = static_cast<float>((q[i] >> 4) - 8) * d;
  }
}

// `value` is the code and a half. Only what is not finite lies below zero or is NaN; it becomes code 0.
inline uint8_t code(float value) noexcept {
  value = value > 0.0f ? value : 0.0f;
  return static_cast<uint8_t>(value < 15.0f ? value : 15.0f);
}

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    float magnitude = 0;
    float extreme = 0;  // the first of largest magnitude, with its sign
    for (int i = 0; i < kBlock; ++i) {
      if (magnitude < std::abs(from[i])) magnitude = std::abs(from[i]), extreme = from[i];
    }
    const float d = extreme / -8;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    store_f16(d, to);
    uint8_t q[kHalf];
    for (int i = 0; i < kHalf; ++i) {
      const uint8_t low = code(from[i] * inverse + 8.5f);
      const uint8_t high = code(from[i + kHalf] * inverse + 8.5f);
      q[i] = static_cast<uint8_t>(low | high << 4);
    }
    std::memcpy(to + 2, q, kHalf);
  }
}

}  // namespace

const Codec kQ4_0 = {
    .name = "q4_0",
    .description = "4 bits, blocks of 32 with an f16 scale (GGUF)",
    .block = kBlock,
    .block_bytes = kBytes,
    .gguf_type = 2,
    .max_error = 1.0 / 8 + 0x1p-11,
    .decode = dispatched<decode_blocks>,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
