// iq2_xxs: super-blocks of 256; eight groups of 32 values, each four rows of a grid of 256, with signs, as in GGUF.
//
//   Block   66 bytes    | d: f16 | q[8]: { row[4], u32 } |    u32 = scale << 28 | four times 7 signs
//   Value   x[i] = d * (scale + 1/2) / 4 * level, negative where its sign says so
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/iq_grids.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 66;

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const float d = load_f16(from);
    for (int group = 0; group < 8; ++group) {
      uint8_t rows[4];
      uint32_t rest;
      std::memcpy(rows, from + 2 + 8 * group, sizeof rows);
      std::memcpy(&rest, from + 6 + 8 * group, sizeof rest);
      const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.25f;
      for (int k = 0; k < 4; ++k)
        write_row<8, 2>(kGridIq2Xxs[rows[k]], kLevelsIq2, scale, even_signs(rest >> (7 * k) & 127),
                        to + 32 * group + 8 * k);
    }
  }
}

}  // namespace

const Codec kIq2Xxs = {
    .name = "iq2_xxs",
    .description = "2.1 bits, super-blocks of 256 of rows of a grid (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 16,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
