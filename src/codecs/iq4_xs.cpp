// iq4_xs: super-blocks of 256 4-bit codes of iq4_nl's levels; eight groups of 32, each with a 6-bit scale, as in GGUF.
//
//   Block   136 bytes   | d: f16 | high: u16 | low[4] | q[128] |
//                       scale k: low 4 bits in low[k / 2] >> k % 2 * 4, high 2 bits in high >> 2 k
//                       q[16 k + i] = code of x[32 k + i] | code of x[32 k + 16 + i] << 4
//   Value   x[i] = d * (scale - 32) * level[code]
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/iq4_levels.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 136;
constexpr int kCodes = 8;  // offset in the block

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint8_t low[4], codes[128];
    uint16_t high;
    std::memcpy(&high, from + 2, sizeof high);
    std::memcpy(low, from + 4, sizeof low);
    std::memcpy(codes, from + kCodes, sizeof codes);
    const float d = load_f16(from);
    for (int group = 0; group < 8; ++group) {
      const int s = (low[group / 2] >> (group % 2 * 4) & 15) | (high >> (2 * group) & 3) << 4;
      const float scale = d * static_cast<float>(s - 32);
      const uint8_t* const q = codes + 16 * group;
      for (int i = 0; i < 16; ++i) to[32 * group + i] = scale * static_cast<float>(kLevelsIq4[q[i] & 15]);
      for (int i = 0; i < 16; ++i) to[32 * group + 16 + i] = scale * static_cast<float>(kLevelsIq4[q[i] >> 4]);
    }
  }
}

}  // namespace

const Codec kIq4Xs = {
    .name = "iq4_xs",
    .description = "4.3 bits, super-blocks of 256 with 6-bit scales and levels closer near zero (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 23,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
