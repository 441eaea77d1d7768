// q4_K: super-blocks of 256 nibbles; eight groups of 32, each with a 6-bit scale and minimum, as in GGUF.
//
//   Block   144 bytes   | d: f16 | dmin: f16 | scales[12] | q[128] |    scales as in k_fit.h
//                       byte i of run r (32 bytes each) = code of x[64 r + i] | code of x[64 r + 32 + i] << 4
//   Value   x[i] = d * s[i / 32] * code - dmin * m[i / 32]
//   Encode  k_fit.h, with 20 tries from 14 steps up, 0.1 apart
//   Error   typically max|x| / 15, but only this is certain: the search starts at half a step h <= max|x| / 15
//           everywhere, never makes the weighted squared error larger, and no weight is less than a 64th of their sum,
//           so no value ends more than 8 h off; 6-bit scales and minimums add up to 3/126 of max|x|, f16 less than
//           1/500.
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/importance.h"
#include "codecs/k_fit.h"

namespace thimble {
namespace {

constexpr int kBytes = 144;
constexpr int kCodes = 16;  // offset in the block
constexpr GroupSearch kSearch = {.top = 15, .first = -1.0f, .delta = 0.1f, .tries = 20};
constexpr GroupSearch kWeightedSearch = {.top = 15, .first = -0.9f, .delta = 0.05f, .tries = 36};

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kSuperBlock, from += kBytes) {
    const float d = load_f16(from);
    const float dmin = load_f16(from + 2);
    uint8_t s[kGroups], m[kGroups];
    unpack_scales(from + 4, s, m);
    for (int run = 0; run < kGroups / 2; ++run, to += 2 * kGroup) {
      const auto* const q = reinterpret_cast<const uint8_t*>(from + kCodes + kGroup * run);
      const float low_scale = d * static_cast<float>(s[2 * run]);
      const float low_minimum = dmin * static_cast<float>(m[2 * run]);
#pragma GCC unroll 1
      for (int i = 0; i < kGroup; ++i) to[i] = low_scale * static_cast<float>(q[i] & 15) - low_minimum;
      const float high_scale = d * static_cast<float>(s[2 * run + 1]);
      const float high_minimum = dmin * static_cast<float>(m[2 * run + 1]);
#pragma GCC unroll 1
      for (int i = 0; i < kGroup; ++i) to[i + kGroup] = high_scale * static_cast<float>(q[i] >> 4) - high_minimum;
    }
  }
}

void pack(const SuperBlockFit& fit, std::byte* to) noexcept {
  std::memcpy(to, &fit.d, 2);
  std::memcpy(to + 2, &fit.dmin, 2);
  std::memcpy(to + 4, fit.scales, kPackedScales);
  for (int run = 0; run < kGroups / 2; ++run) {
    const uint8_t* codes = fit.codes + 2 * kGroup * run;
    for (int i = 0; i < kGroup; ++i)
      to[kCodes + kGroup * run + i] = static_cast<std::byte>(codes[i] | codes[i + kGroup] << 4);
  }
}

void encode(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kSuperBlock, from += kSuperBlock, to += kBytes) {
    SuperBlockFit fit;
    fit_super_block(kSearch, from, nullptr, fit);
    pack(fit, to);
  }
}

}  // namespace

void encode_weighted_q4_K(const float* row, const float* importance, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kSuperBlock, to += kBytes) {
    SuperBlockFit fit;
    fit_super_block(kWeightedSearch, row + start, importance + start, fit);
    pack(fit, to);
  }
}

const Codec kQ4K = {
    .name = "q4_K",
    .description = "4.5 bits, super-blocks of 256 with 6-bit scales and minimums (GGUF)",
    .block = kSuperBlock,
    .block_bytes = kBytes,
    .gguf_type = 12,
    .max_error = 8.0 / 15 + 3.0 / 126 + 0x1p-9,
    .decode = dispatched<decode_blocks>,
    .encode = encode,
};

}  // namespace thimble
