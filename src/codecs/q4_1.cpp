// q4_1: 32 nibbles with a scale and a minimum, as in GGUF.
//
//   Block   20 bytes   | d: f16 | m: f16 | q[16] |    q[i] = code of x[i] | code of x[i + 16] << 4
//   Value   x[i] = d * code + m
//   Encode  m = min x, d = (max x - m) / 15, code = (x - m) / d rounded to nearest
//   Error   half a step, (max - min) / 30 <= max|x| / 15. Rounding d to f16 (2^-11 relative) moves a value by at most
//           15 d * 2^-11 <= max|x| * 2^-10, rounding m by max|x| * 2^-11.
#include "codecs/block32.h"

namespace thimble {
namespace {

using Block = Block32<4, true>;

}  // namespace

const Codec kQ4_1 = {
    .name = "q4_1",
    .description = "4 bits, blocks of 32 with an f16 scale and minimum (GGUF)",
    .block = Block::kBlock,
    .block_bytes = Block::kBytes,
    .gguf_type = 3,
    .max_error = 1.0 / 15 + 3 * 0x1p-11,
    .decode = dispatched<Block::decode<true>, Block::decode<false>>,
    .encode = dispatched<Block::encode>,
};

}  // namespace thimble
