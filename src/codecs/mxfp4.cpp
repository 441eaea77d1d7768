// mxfp4: blocks of 32 4-bit floats (e2m1) with a common power of two (e8m0), as in GGUF.
//
//   Paper   Open Compute Project 2023, Microscaling Formats (MX) v1.0
//   Block   17 bytes    | e | q[16] |    q[i] = code of x[i] | code of x[16 + i] << 4
//   Value   x[i] = 2^(e - 128) * level[code], the levels twice those of e2m1
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 32, kBytes = 17;
constexpr int8_t kLevels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// 2^(e - 128); the two least are below the normal numbers.
inline float half_power(uint8_t e) noexcept {
  const uint32_t bits = e < 2 ? uint32_t{0x00200000} << e : static_cast<uint32_t>(e - 1) << 23;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    uint8_t codes[16];
    std::memcpy(codes, from + 1, sizeof codes);
    const float d = half_power(static_cast<uint8_t>(from[0]));
    for (int i = 0; i < 16; ++i) to[i] = d * static_cast<float>(kLevels[codes[i] & 15]);
    for (int i = 0; i < 16; ++i) to[16 + i] = d * static_cast<float>(kLevels[codes[i] >> 4]);
  }
}

}  // namespace

const Codec kMxfp4 = {
    .name = "mxfp4",
    .description = "4.3 bits, blocks of 32 4-bit floats with a common power of two (GGUF, read only)",
    .block = 32,
    .block_bytes = kBytes,
    .gguf_type = 39,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
