// q5_K: super-blocks of 256 5-bit codes; eight groups of 32, each with a 6-bit scale and minimum, as in GGUF.
//
//   Block   176 bytes   | d: f16 | dmin: f16 | scales[12] | h[32] | q[128] |    scales as in k_fit.h
//                       byte i of run r (32 bytes each) = low four bits of code 64 r + i | of code 64 r + 32 + i << 4;
//                       bit g of h[i] is the fifth bit of code 32 g + i
//   Value   x[i] = d * s[i / 32] * code - dmin * m[i / 32]
//   Encode  k_fit.h, with 15 tries from 30.5 steps up, 0.1 apart
//   Error   as for q4_K, with half a step h <= max|x| / 31
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/importance.h"
#include "codecs/k_fit.h"

namespace thimble {
namespace {

constexpr int kBytes = 176;
constexpr int kHigh = 16;  // offsets in the block
constexpr int kLow = 48;
constexpr GroupSearch kSearch = {.top = 31, .first = -0.5f, .delta = 0.1f, .tries = 15};
constexpr GroupSearch kWeightedSearch = {.top = 31, .first = -0.9f, .delta = 0.05f, .tries = 36};

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kSuperBlock, from += kBytes) {
    const float d = load_f16(from);
    const float dmin = load_f16(from + 2);
    uint8_t s[kGroups], m[kGroups], h[kGroup];
    unpack_scales(from + 4, s, m);
    std::memcpy(h, from + kHigh, kGroup);
    for (int group = 0; group < kGroups; group += 2, to += 2 * kGroup) {
      uint8_t q[kGroup];
      std::memcpy(q, from + kLow + kGroup * (group / 2), kGroup);
      const float low_scale = d * static_cast<float>(s[group]);
      const float low_minimum = dmin * static_cast<float>(m[group]);
      const uint8_t low_bit = static_cast<uint8_t>(1 << group);
      for (int i = 0; i < kGroup; ++i)
        to[i] = low_scale * static_cast<float>((q[i] & 15) | (h[i] & low_bit ? 16 : 0)) - low_minimum;
      const float high_scale = d * static_cast<float>(s[group + 1]);
      const float high_minimum = dmin * static_cast<float>(m[group + 1]);
      const uint8_t high_bit = static_cast<uint8_t>(2 << group);
      for (int i = 0; i < kGroup; ++i)
        to[i + kGroup] = high_scale * static_cast<float>((q[i] >> 4) | (h[i] & high_bit ? 16 : 0)) - high_minimum;
    }
  }
}

void pack(const SuperBlockFit& fit, std::byte* to) noexcept {
  std::memcpy(to, &fit.d, 2);
  std::memcpy(to + 2, &fit.dmin, 2);
  std::memcpy(to + 4, fit.scales, kPackedScales);
  for (int i = 0; i < kGroup; ++i) {
    int high = 0;
    for (int group = 0; group < kGroups; ++group) high |= fit.codes[kGroup * group + i] >> 4 << group;
    to[kHigh + i] = static_cast<std::byte>(high);
  }
  for (int run = 0; run < kGroups / 2; ++run) {
    const uint8_t* codes = fit.codes + 2 * kGroup * run;
    for (int i = 0; i < kGroup; ++i)
      to[kLow + kGroup * run + i] = static_cast<std::byte>((codes[i] & 15) | (codes[i + kGroup] & 15) << 4);
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

void encode_weighted_q5_K(const float* row, const float* importance, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kSuperBlock, to += kBytes) {
    SuperBlockFit fit;
    fit_super_block(kWeightedSearch, row + start, importance + start, fit);
    pack(fit, to);
  }
}

const Codec kQ5K = {
    .name = "q5_K",
    .description = "5.5 bits, super-blocks of 256 with 6-bit scales and minimums (GGUF)",
    .block = kSuperBlock,
    .block_bytes = kBytes,
    .gguf_type = 13,
    .max_error = 8.0 / 31 + 3.0 / 126 + 0x1p-9,
    .decode = dispatched<decode_blocks>,
    .encode = encode,
};

}  // namespace thimble
