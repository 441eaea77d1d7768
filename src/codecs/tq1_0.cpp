// tq1_0: blocks of 256 ternary values, five to a byte, as in GGUF.
//
//   Block   54 bytes    | a[32] | b[16] | c[4] | d: f16 |
//                       digit n of a[i] is x[32 n + i], of b[i] x[160 + 16 n + i] (n < 5), of c[i] x[240 + 4 n + i] (n
//                       < 4) a byte holds its digits as a fraction of 256: digit 0 is byte * 3 >> 8, the next that of
//                       byte * 3
//   Value   x[i] = d * (digit - 1)
//   Choice  read only
#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 256, kBytes = 54;
constexpr int kD = 52;  // offset in the block

inline void write_digits(const std::byte* from, int bytes, int digits, float d, float* to) noexcept {
  constexpr uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  for (int n = 0; n < digits; ++n)
    for (int i = 0; i < bytes; ++i) {
      const auto rest = static_cast<uint8_t>(static_cast<uint8_t>(from[i]) * kPowers[n]);
      to[n * bytes + i] = d * static_cast<float>((rest * 3 >> 8) - 1);
    }
}

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const float d = load_f16(from + kD);
    write_digits(from, 32, 5, d, to);
    write_digits(from + 32, 16, 5, d, to + 160);
    write_digits(from + 48, 4, 4, d, to + 240);
  }
}

}  // namespace

const Codec kTq10 = {
    .name = "tq1_0",
    .description = "1.7 bits, blocks of 256 ternary values (GGUF, read only)",
    .block = 256,
    .block_bytes = kBytes,
    .gguf_type = 34,
    .decode = dispatched<decode_blocks>,
};

}  // namespace thimble
