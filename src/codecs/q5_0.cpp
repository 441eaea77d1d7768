// q5_0: 32 5-bit codes and their scale, as in GGUF.
//
//   Block   22 bytes   | d: f16 | h: u32 | q[16] |    q[i] = low four bits of code i | of code i + 16 << 4
//                      bit i of h is the fifth bit of code i
//   Value   x[i] = d * (code - 16)
//   Encode  d = x[j] / -16 for the first x[j] of largest magnitude; code = x / d + 16 rounded to nearest, at most 31
//   Error   the side opposite to x[j] ends one step early: a step, max|x| / 16, where the rest has half a step.
//           Rounding d to f16 moves a value by at most max|x| * 2^-11 more.
#include "codecs/block32.h"

namespace thimble {
namespace {

using Block = Block32<5, false>;

}  // namespace

const Codec kQ5_0 = {
    .name = "q5_0",
    .description = "5 bits, blocks of 32 with an f16 scale (GGUF)",
    .block = Block::kBlock,
    .block_bytes = Block::kBytes,
    .gguf_type = 6,
    .max_error = 1.0 / 16 + 0x1p-11,
    .decode = dispatched<Block::decode<true>, Block::decode<false>>,
    .encode = dispatched<Block::encode>,
};

}  // namespace thimble
