// q6_K: super-blocks of 256 6-bit codes; sixteen groups of 16, each with an 8-bit scale, as in GGUF.
//
//   Block   210 bytes   | low[128] | high[64] | s[16]: int8 | d: f16 |
//                       half n (128 values), i < 32, codes c0..c3 of x[128 n + i + 32 k], k = 0..3:
//                       low[64 n + i] = c0 & 15 | (c2 & 15) << 4;  low[64 n + 32 + i] = c1 & 15 | (c3 & 15) << 4
//                       high[32 n + i] = c0 >> 4 | c1 >> 4 << 2 | c2 >> 4 << 4 | c3 >> 4 << 6
//   Value   x[i] = d * s[i / 16] * (code - 32)
//   Encode  each group: the scale of least squared error, weighted by x^2, out of 19 tries about max|x| / 32
//   Error   typically max|x| / 32. Certain is: the search starts at most a step (max|x| / 32) off and never makes the
//           weighted squared error larger; the weight of the largest value is at least a 16th of their sum, so it ends
//           at most 4 steps off, and what is not cut off at the end of the range has half a step.
//           8-bit scales add 32 / 256 of a step of the largest group, f16 less than 1/1000.
#include <cmath>

#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/importance.h"
#include "codecs/k_fit.h"
#include "codecs/short_loop.h"

namespace thimble {
namespace {

constexpr int kBytes = 210;
constexpr int kHigh = 128;  // offsets in the block
constexpr int kScales = 192;
constexpr int kD = 208;
constexpr int kSize = 16;  // of a group
constexpr int kCount = kSuperBlock / kSize;
constexpr float kNothing = 1e-15f;  // a group below this is all zeros

// One group: `low_shift` of 0 or 4 and `high_shift` of 0, 2, 4 or 6 are constants, so that whole vectors are shifted.
template <bool unrolled, int low_shift, int high_shift>
THIMBLE_BODY void decode_group(const std::byte* low_from, const std::byte* high_from, float scale,
                               float* __restrict to) noexcept {
  uint8_t low[kSize], high[kSize];
  std::memcpy(low, low_from, kSize);
  std::memcpy(high, high_from, kSize);
  short_loop<unrolled, kSize>([&](int i) __attribute__((always_inline)) {
    const int code = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
    to[i] = scale * static_cast<float>(code - 32);
  });
}

template <bool unrolled>
THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kSuperBlock, from += kBytes) {
    const float d = load_f16(from + kD);
    int8_t s[kCount];
    std::memcpy(s, from + kScales, kCount);
    for (int half = 0; half < 2; ++half, to += kSuperBlock / 2) {
      float scale[8];
      for (int group = 0; group < 8; ++group) scale[group] = d * static_cast<float>(s[8 * half + group]);
      for (int i = 0; i < 2; ++i) {
        const std::byte* low = from + 64 * half + kSize * i;
        const std::byte* high = from + kHigh + 32 * half + kSize * i;
        decode_group<unrolled, 0, 0>(low, high, scale[i], to + kSize * i);
        decode_group<unrolled, 0, 2>(low + 32, high, scale[i + 2], to + 32 + kSize * i);
        decode_group<unrolled, 4, 4>(low, high, scale[i + 4], to + 64 + kSize * i);
        decode_group<unrolled, 4, 6>(low + 32, high, scale[i + 6], to + 96 + kSize * i);
      }
    }
  }
}

void pack(const uint8_t* codes, std::byte* to) noexcept {
  for (int half = 0; half < 2; ++half, codes += 128) {
    for (int i = 0; i < 32; ++i) {
      const int c0 = codes[i], c1 = codes[i + 32], c2 = codes[i + 64], c3 = codes[i + 96];
      to[64 * half + i] = static_cast<std::byte>((c0 & 15) | (c2 & 15) << 4);
      to[64 * half + 32 + i] = static_cast<std::byte>((c1 & 15) | (c3 & 15) << 4);
      to[kHigh + 32 * half + i] = static_cast<std::byte>(c0 >> 4 | c1 >> 4 << 2 | c2 >> 4 << 4 | c3 >> 4 << 6);
    }
  }
}

// importance: of each value; nullptr: its square.
void encode_block(const float* x, const float* importance, std::byte* to) noexcept {
  uint8_t codes[kSuperBlock];
  float scales[kCount];
  float magnitude = 0, extreme = 0;
  for (int j = 0; j < kCount; ++j) {
    const float* const group = x + kSize * j;
    float weights[kSize];
    for (int i = 0; i < kSize; ++i) weights[i] = importance ? importance[kSize * j + i] : group[i] * group[i];
    scales[j] = fit_signed(group, weights, kSize, 32, codes + kSize * j);
    if (std::abs(scales[j]) > magnitude) magnitude = std::abs(scales[j]), extreme = scales[j];
  }
  if (magnitude < kNothing) {
    std::memset(to, 0, kBytes);
    return;
  }
  const float per_scale = -128.0f / extreme;
  store_f16(1 / per_scale, to + kD);
  const float d = load_f16(to + kD);
  // Codes once more, for the scales as they will be read. A scale of zero leaves the codes of the fit.
  for (int j = 0; j < kCount; ++j) {
    const int s = round_within(per_scale * scales[j], -128, 127);
    to[kScales + j] = static_cast<std::byte>(s);
    const float step = d * static_cast<float>(s);
    if (step == 0) continue;
    for (int i = kSize * j; i < kSize * (j + 1); ++i)
      codes[i] = static_cast<uint8_t>(round_within(x[i] / step, -32, 31) + 32);
  }
  pack(codes, to);
}

void encode(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kSuperBlock, from += kSuperBlock, to += kBytes)
    encode_block(from, nullptr, to);
}

}  // namespace

void encode_weighted_q6_K(const float* row, const float* importance, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kSuperBlock, to += kBytes)
    encode_block(row + start, importance + start, to);
}

const Codec kQ6K = {
    .name = "q6_K",
    .description = "6.6 bits, super-blocks of 256 with 8-bit scales (GGUF)",
    .block = kSuperBlock,
    .block_bytes = kBytes,
    .gguf_type = 14,
    .max_error = 4.0 / 32 + 1.0 / 256 + 0x1p-10,
    .decode = dispatched<decode_blocks<true>, decode_blocks<false>>,
    .encode = encode,
};

}  // namespace thimble
