// @NAME@: one line that says what is stored.
//
//   Paper   Authors, year, title, arXiv number, section
//   Block   bytes      | a: f32 | q[..] |    draw every field, and which bits belong to which element
//   Value   x[i] = ...
//   Encode  how scale and codes are found, and what happens on a tie
//   Error   derive max_error here
//   Choice  where this differs from the paper
//
// As made from the template: signed bytes with an f32 scale, x[i] = a / 127 * q[i], so that every test passes.
#include <algorithm>
#include <cmath>

#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 64;
constexpr int kBytes = 4 + kBlock;

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const int filled = static_cast<int>(std::min<int64_t>(kBlock, count - start));
    float step;
    std::memcpy(&step, from, 4);
    for (int i = 0; i < filled; ++i) to[i] = step * static_cast<float>(static_cast<int8_t>(from[4 + i]));
  }
}

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    const int filled = static_cast<int>(std::min<int64_t>(kBlock, count - start));
    float largest = 0;
    for (int i = 0; i < filled; ++i) largest = std::abs(from[i]) > largest ? std::abs(from[i]) : largest;
    const float step = largest / 127;
    const float divisor = step > 0 ? step : 1;
    std::memcpy(to, &step, 4);
    for (int i = 0; i < filled; ++i) to[4 + i] = static_cast<std::byte>(std::lrint(from[i] / divisor));
    std::memset(to + 4 + filled, 0, kBlock - filled);
  }
}

}  // namespace

const Codec @SYMBOL@ = {
    .name = "@NAME@",
    .description = "one line for help and docs",
    .block = kBlock,
    .block_bytes = kBytes,
    .max_error = 1.0 / 254 + 0x1p-20,
    .decode = dispatched<decode_blocks>,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
