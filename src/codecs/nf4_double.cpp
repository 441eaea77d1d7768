// nf4_double: nf4 whose scales are written in 8 bits themselves, as bitsandbytes' double quantisation has it.
//
//   Paper   Dettmers et al. 2023, "QLoRA", arXiv:2305.14314, section 3 (double quantization)
//   Block   272 bytes   | o: f32 | n: f32 | 8 times | c: u8 | q[32] | |   with q[i] = code of x[2i] << 4 | that of
//           x[2i + 1]; a block that is partly filled ends behind the last 64 numbers that it has some of
//   Value   x[i] = (o + n map[c]) level[code], of every 64 numbers; the levels are nf4's, the map int8_block's
//   Encode  a = max|x| of 64 numbers, codes as nf4's of x / a; o the mean of the block's a, n the largest |a - o|, c
//           the value of the map nearest to (a - o) / n
//   Error   nf4's, and half the widest gap of the map for the scale
//   Choice  o and n are of 512 numbers, where bitsandbytes has n of 16384 and o of the matrix: a block is read by
//           itself
#include <algorithm>
#include <array>

#include "codecs/codec.h"

namespace thimble {
namespace {

constexpr int64_t kPart = 64;
constexpr int64_t kParts = 8;
constexpr int64_t kBlock = kPart * kParts;
constexpr int64_t kHeader = 8;
constexpr int64_t kCodes = kPart / 2;
constexpr int64_t kPartBytes = 1 + kCodes;
constexpr int64_t kPlainBytes = 4 + kCodes;  // of nf4

using PlainBlocks = std::array<std::byte, kParts * kPlainBytes>;
using ScaleBlock = std::array<std::byte, 4 + 256>;  // of int8_block

int64_t parts_of(int64_t count) { return (count + kPart - 1) / kPart; }

void encode_block(const float* from, std::byte* to, int64_t count) noexcept {
  PlainBlocks plain;
  kNf4.encode(from, plain.data(), count);
  const int64_t parts = parts_of(count);
  std::array<float, kParts> scales;
  double sum = 0;
  for (int64_t i = 0; i < parts; ++i) {
    std::memcpy(&scales[static_cast<size_t>(i)], plain.data() + i * kPlainBytes, 4);
    sum += scales[static_cast<size_t>(i)];
  }
  const auto mean = static_cast<float>(sum / static_cast<double>(parts));
  for (float& scale : std::span(scales).first(static_cast<size_t>(parts))) scale -= mean;
  ScaleBlock coded;
  kInt8Block.encode(scales.data(), coded.data(), parts);
  std::memcpy(to, &mean, 4);
  std::memcpy(to + 4, coded.data(), 4);
  to += kHeader;
  for (int64_t i = 0; i < parts; ++i, to += kPartBytes) {
    *to = coded[static_cast<size_t>(4 + i)];
    std::memcpy(to + 1, plain.data() + i * kPlainBytes + 4, kCodes);
  }
}

void decode_block(const std::byte* from, float* to, int64_t count) noexcept {
  const int64_t parts = parts_of(count);
  float mean;
  std::memcpy(&mean, from, 4);
  ScaleBlock coded;
  std::memcpy(coded.data(), from + 4, 4);
  from += kHeader;
  for (int64_t i = 0; i < parts; ++i) coded[static_cast<size_t>(4 + i)] = from[i * kPartBytes];
  std::array<float, kParts> scales;
  kInt8Block.decode(coded.data(), scales.data(), parts);
  PlainBlocks plain;
  for (int64_t i = 0; i < parts; ++i) {
    const float scale = scales[static_cast<size_t>(i)] + mean;
    std::memcpy(plain.data() + i * kPlainBytes, &scale, 4);
    std::memcpy(plain.data() + i * kPlainBytes + 4, from + i * kPartBytes + 1, kCodes);
  }
  kNf4.decode(plain.data(), to, count);
}

void encode(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kHeader + kParts * kPartBytes)
    encode_block(from, to, std::min(kBlock, count - start));
}

void decode(const std::byte* from, float* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kHeader + kParts * kPartBytes, to += kBlock)
    decode_block(from, to, std::min(kBlock, count - start));
}

}  // namespace

const Codec kNf4Double = {
    .name = "nf4_double",
    .description = "nf4 whose scales are in 8 bits themselves (double quantisation), blocks of 512",
    .block = kBlock,
    .block_bytes = kHeader + kParts * kPartBytes,
    .part = kPart,
    .part_bytes = kPartBytes,
    .max_error = 0.1519037 + 0.9 / 64 / 2 + 1e-6,
    .decode = decode,
    .encode = encode,
};

}  // namespace thimble
