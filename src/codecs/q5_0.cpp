// q5_0: 32 5-bit codes and their scale, as in GGUF.
//
//   Block   22 bytes   | d: f16 | h: u32 | q[16] |    q[i] = low four bits of code i | of code i + 16 << 4
//                      bit i of h is the fifth bit of code i
//   Value   x[i] = d * (code - 16)
//   Encode  d = x[j] / -16 for the first x[j] of largest magnitude; code = x / d + 16 rounded to nearest, at most 31
//   Error   the side opposite to x[j] ends one step early: a step, max|x| / 16, where the rest has half a step.
//           Rounding d to f16 moves a value by at most max|x| * 2^-11 more.
#include <cmath>

#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 32;
constexpr int kHalf = kBlock / 2;
constexpr int kBytes = 22;

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const float d = load_f16(from);
    uint32_t h;
    std::memcpy(&h, from + 2, 4);
    uint8_t q[kHalf];
    std::memcpy(q, from + 6, kHalf);
    // Shifts of 32-bit lanes in a loop of their own: vector code has none of single bytes.
    uint32_t fifth[kBlock];
    for (int i = 0; i < kBlock; ++i) fifth[i] = (h >> i & 1) << 4;
    for (int i = 0; i < kHalf; ++i) to[i] = static_cast<float>(static_cast<int32_t>((q[i] & 15u) | fifth[i]) - 16) * d;
    for (int i = 0; i < kHalf; ++i)
      to[i + kHalf] = static_cast<float>(static_cast<int32_t>((q[i] >> 4u) | fifth[i + kHalf]) - 16) * d;
  }
}

// `value` is the code and a half. Only what is not finite lies below zero or is NaN; it becomes code 0.
inline uint8_t code(float value) noexcept {
  value = value > 0.0f ? value : 0.0f;
  return static_cast<uint8_t>(value < 31.0f ? value : 31.0f);
}

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    float magnitude = 0;
    float extreme = 0;  // the first of largest magnitude, with its sign
    for (int i = 0; i < kBlock; ++i) {
      if (magnitude < std::abs(from[i])) magnitude = std::abs(from[i]), extreme = from[i];
    }
    const float d = extreme / -16;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    store_f16(d, to);
    uint32_t h = 0;
    uint8_t q[kHalf];
    for (int i = 0; i < kHalf; ++i) {
      const uint8_t low = code(from[i] * inverse + 16.5f);
      const uint8_t high = code(from[i + kHalf] * inverse + 16.5f);
      q[i] = static_cast<uint8_t>((low & 15) | (high & 15) << 4);
      h |= static_cast<uint32_t>(low >> 4) << i | static_cast<uint32_t>(high >> 4) << (i + kHalf);
    }
    std::memcpy(to + 2, &h, 4);
    std::memcpy(to + 6, q, kHalf);
  }
}

}  // namespace

const Codec kQ5_0 = {
    .name = "q5_0",
    .description = "5 bits, blocks of 32 with an f16 scale (GGUF)",
    .block = kBlock,
    .block_bytes = kBytes,
    .gguf_type = 6,
    .max_error = 1.0 / 16 + 0x1p-11,
    .decode = dispatched<decode_blocks>,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
