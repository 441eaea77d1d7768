// q4_0: 32 nibbles and their scale, as in GGUF.
//
//   Block   18 bytes   | d: f16 | q[16] |    q[i] = code of x[i] | code of x[i + 16] << 4
//   Value   x[i] = d * (code - 8)
//   Encode  d = x[j] / -8 for the first x[j] of largest magnitude; code = x / d + 8 rounded to nearest, at most 15
//   Error   the side opposite to x[j] ends one step early: a step, max|x| / 8, where the rest has half a step.
//           Rounding d to f16 moves a value by at most max|x| * 2^-11 more.
#include "codecs/block32.h"

namespace thimble {
namespace {

using Block = Block32<4, false>;

}  // namespace

const Codec kQ4_0 = {
    .name = "q4_0",
    .description = "4 bits, blocks of 32 with an f16 scale (GGUF)",
    .block = Block::kBlock,
    .block_bytes = Block::kBytes,
    .gguf_type = 2,
    .max_error = 1.0 / 8 + 0x1p-11,
    .decode = dispatched<Block::decode<true>, Block::decode<false>>,
    .encode = dispatched<Block::encode>,
};

}  // namespace thimble
