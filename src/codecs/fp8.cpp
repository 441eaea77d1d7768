// fp8: E4M3 numbers whose range is stretched to that of the format, group by group, made for optimizer states.
//
//   Paper   Xi et al. 2024, "COAT", arXiv:2410.19313, section 4 (dynamic range expansion); Micikevicius et al. 2022,
//           arXiv:2209.05433 (E4M3: bias 7, largest 448, least normal 2^-6, no infinities)
//   Block   136 bytes   | a: f32 | k: f32 | q[128]: u8 |
//   Value   x[i] = sign(q) a |q / 448|^(1/k)
//   Encode  a = max|x|;  k = log R / log(a / least |x| that is not 0), R = 448 / 2^-6;  q = E4M3(448 |x / a|^k)
//   Error   half of a mantissa step, 2^-4, of a number; k >= 1, as a range that is wider than the format's is not
//           compressed: numbers below are subnormal, then 0. k <= 16
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/e4m3.h"

namespace thimble {
namespace {

constexpr int kBlock = 128;
constexpr int kBytes = 8 + kBlock;
constexpr float kLargest = kLargestE4m3;
constexpr float kRange = 448 / 0x1p-6f;
constexpr float kMostStretch = 16;

// To 2^-20 or so: for the stretch alone, whose rounding to three bits of mantissa is far coarser. x > 0.
inline float log2_of(float x) noexcept {
  const int32_t bits = std::bit_cast<int32_t>(x);
  const float m = std::bit_cast<float>((bits & 0x007fffff) | 0x3f800000);  // [1, 2)
  const float t = (m - 1) / (m + 1), s = t * t;
  const float log_m =
      t * (2.8853900818f + s * (0.9617966939f + s * (0.5770780163f + s * (0.4121985831f + s * 0.3205988980f))));
  return static_cast<float>((bits >> 23) - 127) + log_m;
}

inline float exp2_of(float x) noexcept {
  x = std::max(x, -126.0f);
  const float whole = std::floor(x), f = x - whole;
  const float p =
      1 +
      f * (0.6931471806f +
           f * (0.2402265070f + f * (0.0555041087f + f * (0.0096181291f + f * (0.0013333558f + f * 0.0001540353f)))));
  return std::bit_cast<float>((static_cast<int32_t>(whole) + 127) << 23) * p;
}

inline float stretch(float largest, float least) noexcept {
  if (!(largest > least)) return 1;
  return std::clamp(log2_of(kRange) / log2_of(largest / least), 1.0f, kMostStretch);
}

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    const int filled = static_cast<int>(std::min<int64_t>(kBlock, count - start));
    float largest = 0, least = 3.4e38f;
    for (int i = 0; i < filled; ++i) {
      const float x = std::abs(from[i]);
      largest = x > largest || x != x ? x : largest;
      least = x > 0 && x < least ? x : least;
    }
    const float k = stretch(largest, least), divisor = largest > 0 ? largest : 1;
    uint8_t q[kBlock] = {};
    for (int i = 0; i < filled; ++i) {
      const float unit = std::min(std::abs(from[i]) / divisor, 1.0f);
      const float stretched = unit > 0x1p-100f ? kLargest * exp2_of(k * log2_of(unit)) : 0;
      q[i] = static_cast<uint8_t>(to_e4m3(std::min(stretched, kLargest)) | (std::signbit(from[i]) ? 0x80 : 0));
    }
    std::memcpy(to, &largest, 4);
    std::memcpy(to + 4, &k, 4);
    std::memcpy(to + 8, q, kBlock);
  }
}

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const int filled = static_cast<int>(std::min<int64_t>(kBlock, count - start));
    float a, k;
    std::memcpy(&a, from, 4);
    std::memcpy(&k, from + 4, 4);
    float of_code[128];  // every magnitude once
    for (int q = 0; q < 128; ++q)
      of_code[q] = q == 0 ? 0 : a * exp2_of(log2_of(from_e4m3(static_cast<uint8_t>(q)) / kLargest) / k);
    of_code[0x7e] = a;
    for (int i = 0; i < filled; ++i) {
      const int q = std::to_integer<int>(from[8 + i]);
      to[i] = q & 0x80 ? -of_code[q & 0x7f] : of_code[q & 0x7f];
    }
  }
}

}  // namespace

const Codec kFp8 = {
    .name = "fp8",
    .description = "8-bit floats E4M3 with their range stretched in groups of 128 (COAT), for optimizer states",
    .block = kBlock,
    .block_bytes = kBytes,
    .max_error = 0x1p-4 + 0x1p-10,  // and the approximations of the stretch
    .decode = dispatched<decode_blocks>,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
