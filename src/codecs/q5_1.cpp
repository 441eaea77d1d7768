// q5_1: 32 5-bit codes with a scale and a minimum, as in GGUF.
//
//   Block   24 bytes   | d: f16 | m: f16 | h: u32 | q[16] |    q[i] = low four bits of code i | of code i + 16 << 4
//                      bit i of h is the fifth bit of code i
//   Value   x[i] = d * code + m
//   Encode  m = min x, d = (max x - m) / 31, code = (x - m) / d rounded to nearest
//   Error   half a step, (max - min) / 62 <= max|x| / 31. Rounding d to f16 (2^-11 relative) moves a value by at most
//           31 d * 2^-11 <= max|x| * 2^-10, rounding m by max|x| * 2^-11.
#include <limits>

#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 32;
constexpr int kHalf = kBlock / 2;
constexpr int kBytes = 24;

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const float d = load_f16(from);
    const float m = load_f16(from + 2);
    uint32_t h;
    std::memcpy(&h, from + 4, 4);
    uint8_t q[kHalf];
    std::memcpy(q, from + 8, kHalf);
    // Shifts of 32-bit lanes in a loop of their own: vector code has none of single bytes.
    uint32_t fifth[kBlock];
    for (int i = 0; i < kBlock; ++i) fifth[i] = (h >> i & 1) << 4;
    for (int i = 0; i < kHalf; ++i) to[i] = static_cast<float>(static_cast<int32_t>((q[i] & 15u) | fifth[i])) * d + m;
    for (int i = 0; i < kHalf; ++i)
      to[i + kHalf] = static_cast<float>(static_cast<int32_t>((q[i] >> 4u) | fifth[i + kHalf])) * d + m;
  }
}

// `value` is the code and a half. Only what is not finite lies below zero or is NaN; it becomes code 0.
inline uint8_t code(float value) noexcept {
  value = value > 0.0f ? value : 0.0f;
  return static_cast<uint8_t>(value < 31.0f ? value : 31.0f);
}

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    float smallest = std::numeric_limits<float>::max();
    float largest = -std::numeric_limits<float>::max();
    for (int i = 0; i < kBlock; ++i) {
      smallest = from[i] < smallest ? from[i] : smallest;
      largest = from[i] > largest ? from[i] : largest;
    }
    const float d = (largest - smallest) / 31;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    store_f16(d, to);
    store_f16(smallest, to + 2);
    uint32_t h = 0;
    uint8_t q[kHalf];
    for (int i = 0; i < kHalf; ++i) {
      const uint8_t low = code((from[i] - smallest) * inverse + 0.5f);
      const uint8_t high = code((from[i + kHalf] - smallest) * inverse + 0.5f);
      q[i] = static_cast<uint8_t>((low & 15) | (high & 15) << 4);
      h |= static_cast<uint32_t>(low >> 4) << i | static_cast<uint32_t>(high >> 4) << (i + kHalf);
    }
    std::memcpy(to + 4, &h, 4);
    std::memcpy(to + 8, q, kHalf);
  }
}

}  // namespace

const Codec kQ5_1 = {
    .name = "q5_1",
    .description = "5 bits, blocks of 32 with an f16 scale and minimum (GGUF)",
    .block = kBlock,
    .block_bytes = kBytes,
    .gguf_type = 7,
    .max_error = 1.0 / 31 + 3 * 0x1p-11,
    .decode = dispatched<decode_blocks>,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
