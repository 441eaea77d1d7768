// iq3_s: super-blocks of 256; eight groups of 32 values, each eight rows of a grid of 512, with signs, as in GGUF.
//
//   Block   110 bytes   | d: f16 | q[64] | high[8] | sign[32] | s[4] |
//                       row k = q[k] | high[k / 8] >> k % 8 (1 bit) << 8;  s[k] = scale of group 2k | of 2k + 1 << 4
//   Value   x[i] = d * (1 + 2 scale) * level, negative where its sign says so
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/iq_grids.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 110;
constexpr int kHigh = 66, kSigns = 74, kScales = 106;  // offsets in the block
constexpr uint8_t kLevels[16] = {0x01, 0x03, 0x05, 0x07, 0x09, 0x0b, 0x0d, 0x0f};

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint8_t low[64], high[8], signs[32], scales[4];
    std::memcpy(low, from + 2, sizeof low);
    std::memcpy(high, from + kHigh, sizeof high);
    std::memcpy(signs, from + kSigns, sizeof signs);
    std::memcpy(scales, from + kScales, sizeof scales);
    const float d = load_f16(from);
    for (int k = 0; k < 64; ++k) {
      const float scale = d * static_cast<float>(1 + 2 * (scales[k / 16] >> (k / 8 % 2 * 4) & 15));
      const int row = low[k] | (high[k / 8] >> (k % 8) & 1) << 8;
      write_row<4, 4>(kGridIq3S[static_cast<size_t>(row)], kLevels, scale,
                      static_cast<uint8_t>(signs[k / 2] >> (4 * (k % 2))), to + 4 * k);
    }
  }
}

}  // namespace

const Codec kIq3S = {
    .name = "iq3_s",
    .description = "3.4 bits, super-blocks of 256 of rows of a grid (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 21,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
