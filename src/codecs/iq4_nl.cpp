// iq4_nl: blocks of 32 4-bit codes of levels that are closer near zero, as in GGUF.
//
//   Block   18 bytes    | d: f16 | q[16] |    q[i] = code of x[i] | code of x[16 + i] << 4
//   Value   x[i] = d * level[code]
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/iq4_levels.h"

namespace thimble {
namespace {

constexpr int kBlock = 32, kBytes = 18;

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint8_t codes[16];
    std::memcpy(codes, from + 2, sizeof codes);
    const float d = load_f16(from);
    for (int i = 0; i < 16; ++i) to[i] = d * static_cast<float>(kLevelsIq4[codes[i] & 15]);
    for (int i = 0; i < 16; ++i) to[16 + i] = d * static_cast<float>(kLevelsIq4[codes[i] >> 4]);
  }
}

}  // namespace

const Codec kIq4Nl = {
    .name = "iq4_nl",
    .description = "4.5 bits, blocks of 32 with levels closer near zero (GGUF, read only)",
    .block = 32,
    .block_bytes = kBytes,
    .gguf_type = 20,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
