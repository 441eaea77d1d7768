// fp8_group: E4M3 numbers with one scale for 16 of them, made for kept activations.
//
//   Paper   Xi et al. 2024, "COAT", arXiv:2410.19313, section 5 (groups of 1 x 16, scales in bf16)
//   Block   18 bytes   | s: bf16 | q[16]: u8 |
//   Value   x[i] = sign(q) s q
//   Encode  s = max|x| / 448, rounded up;  q = E4M3(|x| / s)
//   Error   half of a mantissa step, 2^-4, of a number
#include <cstring>

#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/e4m3.h"

namespace thimble {
namespace {

constexpr int kBlock = 16;
constexpr int kBytes = 2 + kBlock;

// The bf16 that is not below x >= 0.
inline uint16_t up_to_bf16(float x) noexcept {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits >> 16) + ((bits & 0xffff) != 0 && bits < 0x7f800000u));
}
inline float from_bf16_bits(uint16_t bits) noexcept { return std::bit_cast<float>(uint32_t{bits} << 16); }

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    const int filled = static_cast<int>(std::min<int64_t>(kBlock, count - start));
    float largest = 0;
    for (int i = 0; i < filled; ++i) {
      const float x = std::abs(from[i]);
      largest = x > largest || x != x ? x : largest;
    }
    const uint16_t scale = up_to_bf16(largest / kLargestE4m3);
    const float s = from_bf16_bits(scale), divisor = s > 0 ? s : 1;
    uint8_t q[kBlock] = {};
    for (int i = 0; i < filled; ++i)
      q[i] = static_cast<uint8_t>(to_e4m3(std::min(std::abs(from[i]) / divisor, kLargestE4m3)) |
                                  (std::signbit(from[i]) ? 0x80 : 0));
    std::memcpy(to, &scale, 2);
    std::memcpy(to + 2, q, kBlock);
  }
}

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const int filled = static_cast<int>(std::min<int64_t>(kBlock, count - start));
    uint16_t scale;
    std::memcpy(&scale, from, 2);
    const float s = from_bf16_bits(scale);
    for (int i = 0; i < filled; ++i) {
      const auto q = std::to_integer<uint8_t>(from[2 + i]);
      to[i] = (q & 0x80 ? -s : s) * from_e4m3(q);
    }
  }
}

}  // namespace

const Codec kFp8Group = {
    .name = "fp8_group",
    .description = "8-bit floats E4M3, one scale for 16 of them (COAT), for kept activations",
    .block = kBlock,
    .block_bytes = kBytes,
    .max_error = 0x1p-4 + 0x1p-8,
    .decode = dispatched<decode_blocks>,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
