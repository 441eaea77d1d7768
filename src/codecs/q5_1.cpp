// q5_1: 32 5-bit codes with a scale and a minimum, as in GGUF.
//
//   Block   24 bytes   | d: f16 | m: f16 | h: u32 | q[16] |    q[i] = low four bits of code i | of code i + 16 << 4
//                      bit i of h is the fifth bit of code i
//   Value   x[i] = d * code + m
//   Encode  m = min x, d = (max x - m) / 31, code = (x - m) / d rounded to nearest
//   Error   half a step, (max - min) / 62 <= max|x| / 31. Rounding d to f16 (2^-11 relative) moves a value by at most
//           31 d * 2^-11 <= max|x| * 2^-10, rounding m by max|x| * 2^-11.
#include "codecs/block32.h"

namespace thimble {
namespace {

using Block = Block32<5, true>;

}  // namespace

const Codec kQ5_1 = {
    .name = "q5_1",
    .description = "5 bits, blocks of 32 with an f16 scale and minimum (GGUF)",
    .block = Block::kBlock,
    .block_bytes = Block::kBytes,
    .gguf_type = 7,
    .max_error = 1.0 / 31 + 3 * 0x1p-11,
    .decode = dispatched<Block::decode<true>, Block::decode<false>>,
    .encode = dispatched<Block::encode>,
};

}  // namespace thimble
