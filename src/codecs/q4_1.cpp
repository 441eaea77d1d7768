// q4_1: 32 nibbles with a scale and a minimum, as in GGUF.
//
//   Block   20 bytes   | d: f16 | m: f16 | q[16] |    q[i] = code of x[i] | code of x[i + 16] << 4
//   Value   x[i] = d * code + m
//   Encode  m = min x, d = (max x - m) / 15, code = (x - m) / d rounded to nearest
//   Error   half a step, (max - min) / 30 <= max|x| / 15. Rounding d to f16 (2^-11 relative) moves a value by at most
//           15 d * 2^-11 <= max|x| * 2^-10, rounding m by max|x| * 2^-11.
#include <limits>

#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 32;
constexpr int kHalf = kBlock / 2;
constexpr int kBytes = 20;

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const float d = load_f16(from);
    const float m = load_f16(from + 2);
    uint8_t q[kHalf];
    std::memcpy(q, from + 4, kHalf);
    for (int i = 0; i < kHalf; ++i) to[i] = static_cast<float>(q[i] & 15) * d + m;
    for (int i = 0; i < kHalf; ++i) to[i + kHalf] = static_cast<float>(q[i] >> 4) * d + m;
  }
}

// `value` is the code and a half. Only what is not finite lies below zero or is NaN; it becomes code 0.
inline uint8_t code(float value) noexcept {
  value = value > 0.0f ? value : 0.0f;
  return static_cast<uint8_t>(value < 15.0f ? value : 15.0f);
}

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    float smallest = std::numeric_limits<float>::max();
    float largest = -std::numeric_limits<float>::max();
    for (int i = 0; i < kBlock; ++i) {
      smallest = from[i] < smallest ? from[i] : smallest;
      largest = from[i] > largest ? from[i] : largest;
    }
    const float d = (largest - smallest) / 15;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    store_f16(d, to);
    store_f16(smallest, to + 2);
    uint8_t q[kHalf];
    for (int i = 0; i < kHalf; ++i) {
      const uint8_t low = code((from[i] - smallest) * inverse + 0.5f);
      const uint8_t high = code((from[i + kHalf] - smallest) * inverse + 0.5f);
      q[i] = static_cast<uint8_t>(low | high << 4);
    }
    std::memcpy(to + 4, q, kHalf);
  }
}

}  // namespace

const Codec kQ4_1 = {
    .name = "q4_1",
    .description = "4 bits, blocks of 32 with an f16 scale and minimum (GGUF)",
    .block = kBlock,
    .block_bytes = kBytes,
    .gguf_type = 3,
    .max_error = 1.0 / 15 + 3 * 0x1p-11,
    .decode = dispatched<decode_blocks>,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
