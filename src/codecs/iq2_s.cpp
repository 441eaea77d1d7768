// iq2_s: super-blocks of 256; sixteen groups of 16 values, each two rows of a grid of 1024, with signs, as in GGUF.
//
//   Block   82 bytes    | d: f16 | q[32] | sign[32] | high[8] | s[8] |
//                       row k = q[k] | high[k / 4] >> k % 4 * 2 (2 bits) << 8;  s[k] = scale of group 2k | of 2k + 1 <<
//                       4
//   Value   x[i] = d * (scale + 1/2) / 4 * level, negative where its sign says so
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/iq_grids.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 82;
constexpr int kSigns = 34, kHigh = 66, kScales = 74;  // offsets in the block

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint8_t low[32], signs[32], high[8], scales[8];
    std::memcpy(low, from + 2, sizeof low);
    std::memcpy(signs, from + kSigns, sizeof signs);
    std::memcpy(high, from + kHigh, sizeof high);
    std::memcpy(scales, from + kScales, sizeof scales);
    const float d = load_f16(from);
    for (int k = 0; k < 32; ++k) {
      const float scale = d * (0.5f + static_cast<float>(scales[k / 4] >> (k / 2 % 2 * 4) & 15)) * 0.25f;
      const int row = low[k] | (high[k / 4] >> (k % 4 * 2) & 3) << 8;
      write_row<8, 2>(kGridIq2S[static_cast<size_t>(row)], kLevelsIq2, scale, signs[k], to + 8 * k);
    }
  }
}

}  // namespace

const Codec kIq2S = {
    .name = "iq2_s",
    .description = "2.6 bits, super-blocks of 256 of rows of a grid (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 22,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
