// iq3_xxs: super-blocks of 256; eight groups of 32 values, each eight rows of a grid of 256, with signs, as in GGUF.
//
//   Block   98 bytes    | d: f16 | row[64] | s[8]: u32 |    s = scale << 28 | four times 7 signs
//   Value   x[i] = d * (scale + 1/2) / 2 * level, negative where its sign says so
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/iq_grids.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 98;
constexpr int kScales = 66;  // offset in the block
constexpr uint8_t kLevels[16] = {0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3e};

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint8_t rows[64];
    std::memcpy(rows, from + 2, sizeof rows);
    const float d = load_f16(from);
    for (int group = 0; group < 8; ++group) {
      uint32_t rest;
      std::memcpy(&rest, from + kScales + 4 * group, sizeof rest);
      const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.5f;
      for (int k = 0; k < 8; ++k) {
        const uint8_t signs = even_signs(rest >> (7 * (k / 2)) & 127);
        write_row<4, 4>(kGridIq3Xxs[rows[8 * group + k]], kLevels, scale, static_cast<uint8_t>(signs >> (4 * (k % 2))),
                        to + 32 * group + 4 * k);
      }
    }
  }
}

}  // namespace

const Codec kIq3Xxs = {
    .name = "iq3_xxs",
    .description = "3.1 bits, super-blocks of 256 of rows of a grid (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 18,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
