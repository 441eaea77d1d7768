// Codecs of rows in which at most n of every m consecutive numbers are not zero (n:m sparsity). Those numbers lie as
// another codec writes them, beside a mask of their places: half the bytes of a 2:4 matrix, and a bit an element.
//
//   Paper   Zhou et al. 2021 (N:M fine-grained structured sparsity), arXiv:2102.04010; Mishra et al. 2021, arXiv:
//           2104.08378
//   Block   36 bytes of 32 elements   | mask: u32 | v[16]: 16 bits each |
//           bit i of the mask: v has x[i], in rising order of i. Every four bits from 4 g on hold exactly two, so that
//           v of group g begins at 2 g: the mask of compressed-tensors' sparse-24-bitmask, byte for byte
//   Encode  of every four the two of largest magnitude, of equal ones the later. Whoever writes a model checks that
//           nothing else was there (models/damage.h)
#pragma once

#include "codecs/codec.h"

namespace thimble {

struct Pattern {
  const Codec* codec;
  const Codec* dense;  // in which its numbers lie
  int64_t keep, of;    // of every `of` consecutive elements of a row at most `keep` are not zero
  // Elements as `dense` writes them, zeros and all: `count` from the start of a block.
  void (*unpack)(const std::byte* from, std::byte* to, int64_t count) noexcept;
};

// nullptr where rows of the codec may hold anything.
const Pattern* pattern_of(const Codec& codec);

extern const Codec kBf16In24;
extern const Codec kF16In24;

namespace in_2_4 {

constexpr int64_t kBlock = 32, kMaskBytes = 4, kBytes = kMaskBytes + kBlock;
constexpr int64_t kAtOnce = 8 * kBlock;  // elements that pass through memory as `dense` has them

void unpack(const std::byte* from, std::byte* to, int64_t count) noexcept;
// `words`: the same elements as 16 bits each, as they are to lie.
void pack(const float* from, const std::byte* words, std::byte* to, int64_t count) noexcept;

template <const Codec& dense>
void decode(const std::byte* from, float* to, int64_t count) noexcept {
  std::byte words[2 * kAtOnce];
  for (; count > 0; count -= kAtOnce, from += kAtOnce / kBlock * kBytes, to += kAtOnce) {
    const int64_t some = count < kAtOnce ? count : kAtOnce;
    unpack(from, words, some);
    dense.decode(words, to, some);
  }
}

template <const Codec& dense>
void encode(const float* from, std::byte* to, int64_t count) noexcept {
  std::byte words[2 * kAtOnce];
  for (; count > 0; count -= kAtOnce, from += kAtOnce, to += kAtOnce / kBlock * kBytes) {
    const int64_t some = count < kAtOnce ? count : kAtOnce;
    dense.encode(from, words, some);
    pack(from, words, to, some);
  }
}

}  // namespace in_2_4

}  // namespace thimble
