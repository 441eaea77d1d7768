// tq2_0: blocks of 256 ternary values, four to a byte, as in GGUF.
//
//   Block   66 bytes    | q[64] | d: f16 |    q[32 n + i] = digit of x[128 n + i + 32 k] << 2 k, k = 0..3
//   Value   x[i] = d * (digit - 1)
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 66;
constexpr int kD = 64;  // offset in the block

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint8_t codes[64];
    std::memcpy(codes, from, sizeof codes);
    const float d = load_f16(from + kD);
    for (int run = 0; run < 8; ++run)
      for (int i = 0; i < 32; ++i)
        to[32 * run + i] = d * static_cast<float>((codes[32 * (run / 4) + i] >> (run % 4 * 2) & 3) - 1);
  }
}

}  // namespace

const Codec kTq20 = {
    .name = "tq2_0",
    .description = "2.1 bits, blocks of 256 ternary values (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 35,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
