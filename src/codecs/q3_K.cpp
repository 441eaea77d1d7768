// q3_K: super-blocks of 256 3-bit codes; sixteen groups of 16, each with a 6-bit scale, as in GGUF.
//
//   Block   110 bytes   | high[32] | q[64] | s[12] | d: f16 |
//                       half n (128 values): q[32 n + i] = low bits of x[128 n + i + 32 k] << 2 k, k = 0..3
//                       high[i] = high bits of x[i + 32 k] << k, k = 0..7
//                       scale k: low 4 bits in s[k % 8] (upper nibble from k = 8 on), high 2 bits in s[8 + k % 4] >> k
//                       / 4 * 2
//   Value   x[i] = d * (scale - 32) * (code - 4)
//   Choice  read only: such files are made by llama.cpp, with statistics of the model's inputs
#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 110;
constexpr int kCodes = 32, kScales = 96, kD = 108;  // offsets in the block

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint8_t high[32], codes[64], packed[12];
    std::memcpy(high, from, sizeof high);
    std::memcpy(codes, from + kCodes, sizeof codes);
    std::memcpy(packed, from + kScales, sizeof packed);
    const float d = load_f16(from + kD);
    for (int group = 0; group < 16; ++group) {
      const int low = packed[group % 8] >> (group / 8 * 4) & 15, top = packed[8 + group % 4] >> (group / 4 * 2) & 3;
      const float scale = d * static_cast<float>((low | top << 4) - 32);
      const uint8_t* const q = codes + 32 * (group / 8) + 16 * (group % 2);
      const uint8_t* const h = high + 16 * (group % 2);
      const int shift = group / 2 % 4 * 2, bit = group / 2;
      for (int i = 0; i < 16; ++i) {
        const int code = (q[i] >> shift & 3) | (h[i] >> bit & 1) << 2;
        to[16 * group + i] = scale * static_cast<float>(code - 4);
      }
    }
  }
}

}  // namespace

const Codec kQ3K = {
    .name = "q3_K",
    .description = "3.4 bits, super-blocks of 256 with 6-bit scales (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 11,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
