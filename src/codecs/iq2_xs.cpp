// iq2_xs: super-blocks of 256; sixteen groups of 16 values, each two rows of a grid of 512, with signs, as in GGUF.
//
//   Block   74 bytes    | d: f16 | q[32]: u16 | s[8] |    q = 7 signs << 9 | row;  s[k] = scale of group
//           2k | of 2k + 1 << 4
//   Value   x[i] = d * (scale + 1/2) / 4 * level, negative where its sign says so
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/iq_grids.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 74;
constexpr int kScales = 66;  // offset in the block

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint16_t codes[32];
    uint8_t scales[8];
    std::memcpy(codes, from + 2, sizeof codes);
    std::memcpy(scales, from + kScales, sizeof scales);
    const float d = load_f16(from);
    for (int k = 0; k < 32; ++k) {
      const float scale = d * (0.5f + static_cast<float>(scales[k / 4] >> (k / 2 % 2 * 4) & 15)) * 0.25f;
      write_row<8, 2>(kGridIq2Xs[codes[k] & 511], kLevelsIq2, scale, even_signs(codes[k] >> 9), to + 8 * k);
    }
  }
}

}  // namespace

const Codec kIq2Xs = {
    .name = "iq2_xs",
    .description = "2.3 bits, super-blocks of 256 of rows of a grid (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 17,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
