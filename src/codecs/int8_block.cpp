// int8_block: block-wise dynamic 8-bit numbers, made for optimizer states.
//
//   Paper   Dettmers et al. 2021, "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861, section 2
//   Block   260 bytes   | a: f32 | q[256]: u8 |
//   Value   x[i] = a * map[q[i]]; the map has 256 values in (-1, 1], in rising order, seven decades of them with
//           1, 2, 4 ... 64 values on each side of zero: small numbers keep a small relative error
//   Encode  a = max|x|, q = the value of the map nearest to x / a; on a tie the one nearer to zero
//   Error   half the widest gap of the map, 0.9 / 64 / 2; the same distance separates -1 from the least value
//   Choice  the signed map, also for values that are never negative; blocks of 256
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "codecs/codec.h"
#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int kBlock = 256;
constexpr int kBytes = 4 + kBlock;
constexpr int kDecades = 7;
constexpr int kZero = 127;      // its place in the map
constexpr int kPositive = 128;  // values above zero; one fewer lie below it, as only +1 is in the map

// The values from zero up: 0, the middles of 2^k equal parts of [10^(k-7), 10^(k-6)] for k = 0..6, and 1.
// Rounded where bitsandbytes' create_dynamic_map rounds, so that the map is the same to the bit.
constexpr std::array<float, kPositive + 1> kMagnitudes = [] {
  constexpr float kScales[kDecades] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1.0f};
  std::array<float, kPositive + 1> values{};
  int next = 1;
  for (int k = 0; k < kDecades; ++k) {
    const int parts = 1 << k;
    const float step = (1.0f - 0.1f) / static_cast<float>(parts);
    const auto edge = [&](int i) {  // counted from the nearer end, with one rounding
      return static_cast<float>(i < (parts + 1) / 2 ? double{0.1f} + double{step} * i : 1 - double{step} * (parts - i));
    };
    for (int i = 0; i < parts; ++i) values[next++] = kScales[k] * ((edge(i) + edge(i + 1)) / 2.0f);
  }
  values[next] = 1.0f;
  return values;
}();

constexpr std::array<float, 256> kMap = [] {
  std::array<float, 256> map{};
  for (int i = 0; i <= kPositive; ++i) map[kZero + i] = kMagnitudes[i];
  for (int i = 1; i < kPositive; ++i) map[kZero - i] = -kMagnitudes[i];
  return map;
}();

constexpr std::array<float, kPositive> kMidpoints = [] {
  std::array<float, kPositive> midpoints{};
  for (int i = 0; i < kPositive; ++i) midpoints[i] = (kMagnitudes[i] + kMagnitudes[i + 1]) / 2;
  return midpoints;
}();

// A search without steps: the exponent and the six upper bits of the mantissa name a bucket of magnitudes, narrow
// enough to hold at most one midpoint. kBelow[bucket] counts the midpoints below it.
constexpr int kShift = 23 - 6;
constexpr int32_t kFirst = std::bit_cast<int32_t>(0x1p-22f) >> kShift;  // below every midpoint
constexpr int kBuckets = (std::bit_cast<int32_t>(1.0f) >> kShift) - kFirst + 1;

constexpr std::array<uint8_t, kBuckets> kBelow = [] {
  std::array<uint8_t, kBuckets> below{};
  int rank = 0;
  for (int bucket = 0; bucket < kBuckets; ++bucket) {
    const float start = std::bit_cast<float>((bucket + kFirst) << kShift);
    while (rank < kPositive && kMidpoints[rank] < start) ++rank;
    below[bucket] = static_cast<uint8_t>(rank);
  }
  return below;
}();

constexpr bool one_midpoint_a_bucket() {
  for (int bucket = 1; bucket < kBuckets; ++bucket) {
    if (kBelow[bucket] > kBelow[bucket - 1] + 1) return false;
  }
  return true;
}
static_assert(one_midpoint_a_bucket());

// `unit` is in [-1, 1], or NaN (which becomes some code).
inline uint8_t nearest(float unit) noexcept {
  const float magnitude = std::abs(unit);
  const int32_t bits = std::bit_cast<int32_t>(magnitude) >> kShift;
  int rank = kBelow[std::clamp(bits - kFirst, 0, kBuckets - 1)];
  rank += rank < kPositive && magnitude > kMidpoints[rank < kPositive ? rank : 0];
  return static_cast<uint8_t>(unit < 0 ? kZero - std::min(rank, kPositive - 1) : kZero + rank);
}

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    const int filled = static_cast<int>(std::min<int64_t>(kBlock, count - start));
    int32_t largest = 0;  // magnitudes compare as their bits do
    for (int i = 0; i < filled; ++i) largest = std::max(largest, std::bit_cast<int32_t>(from[i]) & 0x7fffffff);
    const float a = std::bit_cast<float>(largest);
    const float divisor = a > 0 ? a : 1;
    float unit[kBlock];
    for (int i = 0; i < filled; ++i) unit[i] = from[i] / divisor;
    std::memcpy(to, &a, 4);
    for (int i = 0; i < filled; ++i) to[4 + i] = std::byte{nearest(unit[i])};
    std::memset(to + 4 + filled, kZero, kBlock - filled);
  }
}

THIMBLE_BODY void decode_blocks(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
    const int filled = static_cast<int>(std::min<int64_t>(kBlock, count - start));
    float a;
    std::memcpy(&a, from, 4);
    for (int i = 0; i < filled; ++i) to[i] = kMap[std::to_integer<int>(from[4 + i])] * a;
  }
}

}  // namespace

const Codec kInt8Block = {
    .name = "int8_block",
    .description = "block-wise dynamic 8 bits (8-bit optimizers), blocks of 256 with an f32 scale",
    .block = kBlock,
    .block_bytes = kBytes,
    .max_error = 0.9 / 64 / 2 + 0x1p-22,  // and a few roundings of f32
    .decode = dispatched<decode_blocks>,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
