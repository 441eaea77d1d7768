// q2_K: super-blocks of 256 2-bit codes; sixteen groups of 16, each with a 4-bit scale and minimum, as in GGUF.
//
//   Block   84 bytes    | s[16]: scale | minimum << 4 | q[64] | d: f16 | dmin: f16 |
//                       half n (128 values): q[32 n + i] = code of x[128 n + i + 32 k] << 2 k, k = 0..3
//   Value   x[i] = d * scale * code - dmin * minimum
//   Choice  read only: such files are made by llama.cpp, with statistics of the model's inputs
#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 84;
constexpr int kCodes = 16, kD = 80;  // offsets in the block

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint8_t scales[16], codes[64];
    std::memcpy(scales, from, sizeof scales);
    std::memcpy(codes, from + kCodes, sizeof codes);
    const float d = load_f16(from + kD), dmin = load_f16(from + kD + 2);
    for (int group = 0; group < 16; ++group) {
      const float scale = d * static_cast<float>(scales[group] & 15);
      const float minimum = dmin * static_cast<float>(scales[group] >> 4);
      const uint8_t* const q = codes + 32 * (group / 8) + 16 * (group % 2);
      const int shift = group / 2 % 4 * 2;
      for (int i = 0; i < 16; ++i) to[16 * group + i] = scale * static_cast<float>(q[i] >> shift & 3) - minimum;
    }
  }
}

}  // namespace

const Codec kQ2K = {
    .name = "q2_K",
    .description = "2.6 bits, super-blocks of 256 with 4-bit scales and minimums (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 10,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
