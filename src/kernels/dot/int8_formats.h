// Codes and scales of 16 rows from whole vectors of their words, one lane a row. Layouts are drawn in the codecs'
// files.
#pragma once

#include "kernels/dot/int8_panel.h"
#include "kernels/lanes.h"

namespace thimble {

// A piece of 16 rows as columns of words: word i of all of them at of[16 i]. `end`, of each row: what lies behind whole
// words, half a block's scale of q6_K.
struct Int8Words {
  const uint32_t* of;
  const uint16_t* end;
};
struct Int8Columns {
  static constexpr int64_t kMost = kDotPiece / 32 * 34 / 4 + 1;  // of q8_0, the longest
  alignas(64) uint32_t of[kMost][kDotRows];
  uint16_t end[kDotRows];
};

// 32 elements of each row: codes of elements 4 q .. 4 q + 3, scales of the groups, offset.
struct Int8Block {
  LaneWords quads[8];
  Lanes scales[2], offset;
};

THIMBLE_BODY LaneWords word(const Int8Words& words, int64_t i) noexcept {
  return *reinterpret_cast<const LaneWords*>(words.of + kDotRows * i);
}
// The word that begins at half-word h, whose being odd is known.
template <bool kOdd>
THIMBLE_BODY LaneWords word_at(const Int8Words& words, int64_t h) noexcept {
  if constexpr (kOdd) return word(words, h / 2) >> 16 | word(words, h / 2 + 1) << 16;
  return word(words, h / 2);
}

THIMBLE_BODY Lanes as_lanes(LaneWords words) noexcept { return reinterpret_cast<const Lanes&>(words); }
// f16 in the low half of each word, finite. With its exponent moved, a number below 2^-14 comes out as x = 2^-15 +
// half of itself. (A product of its bits with 2^112 would be slow there.)
THIMBLE_BODY Lanes half_to_float(LaneWords halves) noexcept {
  const LaneWords moved = ((halves & 0x7fffu) << 13) + (112u << 23), sign = (halves & 0x8000u) << 16;
  const Lanes x = as_lanes(moved);
  const Lanes value = at_most(x + x - 0x1p-14f, x);
  return as_lanes(reinterpret_cast<const LaneWords&>(value) | sign);
}
THIMBLE_BODY Lanes number(LaneWords words) noexcept {
  using Numbers = int32_t __attribute__((vector_size(64)));
  return __builtin_convertvector(reinterpret_cast<const Numbers&>(words), Lanes);
}

THIMBLE_BODY LaneWords low_nibbles(LaneWords bytes) noexcept { return bytes & 0x0f0f0f0fu; }
THIMBLE_BODY LaneWords high_nibbles(LaneWords bytes) noexcept { return bytes >> 4 & 0x0f0f0f0fu; }

// The bits from kFrom on, moved to kTo.
template <int kFrom, int kTo>
THIMBLE_BODY LaneWords bits_at(LaneWords words) noexcept {
  if constexpr (kFrom > kTo) return words >> (kFrom - kTo);
  return words << (kTo - kFrom);
}

// read<I>: block b of a piece, which begins at half-word h = b * kBytes / 2, I being b modulo kCycle. So what differs
// from block to block is known to the compiler: whether h is odd, or where K formats keep their bits.
//
// Formats of blocks of 32.
struct Int8Q4_0 {
  static constexpr int kCycle = 2;
  static constexpr int64_t kBytes = 18;
  template <int I>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t h, Int8Block& to) noexcept {
    const LaneWords head = word(words, h / 2);
    to.scales[0] = half_to_float(I % 2 ? head >> 16 : head);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const LaneWords bytes = word_at<I % 2 == 0>(words, h + 1 + 2 * i);
      to.quads[i] = low_nibbles(bytes), to.quads[4 + i] = high_nibbles(bytes);
    }
  }
};
struct Int8Q4_1 {
  static constexpr int kCycle = 2;
  static constexpr int64_t kBytes = 20;
  template <int I>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t h, Int8Block& to) noexcept {
    const LaneWords head = word(words, h / 2);
    to.scales[0] = half_to_float(head), to.offset = half_to_float(head >> 16);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const LaneWords bytes = word(words, h / 2 + 1 + i);
      to.quads[i] = low_nibbles(bytes), to.quads[4 + i] = high_nibbles(bytes);
    }
  }
};
struct Int8Q5_0 {
  static constexpr int kCycle = 2;
  static constexpr int64_t kBytes = 22;
  template <int I>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t h, Int8Block& to) noexcept {
    const LaneWords head = word(words, h / 2);
    to.scales[0] = half_to_float(I % 2 ? head >> 16 : head);
    const LaneWords fifth = word_at<I % 2 == 0>(words, h + 1);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      const LaneWords bytes = word_at<I % 2 == 0>(words, h + 3 + 2 * (q % 4));
      // Bits 4 q .. 4 q + 3, a byte each.
      const LaneWords spread = (fifth >> 4 * q & 15) * 0x00204081u & 0x01010101u;
      to.quads[q] = (q < 4 ? low_nibbles(bytes) : high_nibbles(bytes)) | spread << 4;
    }
  }
};
struct Int8Q8_0 {
  static constexpr int kCycle = 2;
  static constexpr int64_t kBytes = 34;
  template <int I>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t h, Int8Block& to) noexcept {
    const LaneWords head = word(words, h / 2);
    to.scales[0] = half_to_float(I % 2 ? head >> 16 : head);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) to.quads[q] = word_at<I % 2 == 0>(words, h + 1 + 2 * q) ^ 0x80808080u;
  }
};

// q4_K and q5_K: eight groups of 32, six bits of scale and minimum each, packed as in k_fit.h.
template <bool kFifth>
struct Int8Q45K {
  static constexpr int kCycle = 8;
  static constexpr int64_t kBytes = kFifth ? 22 : 18;  // a block's share of 176, or 144
  template <int I>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t, Int8Block& to) noexcept {
    const LaneWords w0 = word(words, 0), w1 = word(words, 1), w2 = word(words, 2), w3 = word(words, 3);
    constexpr unsigned at = 8 * (I % 4);
    const LaneWords scale = I < 4 ? w1 & 0x3f3f3f3fu : low_nibbles(w3) | (w1 >> 2 & 0x30303030u);
    const LaneWords minimum = I < 4 ? w2 & 0x3f3f3f3fu : high_nibbles(w3) | (w2 >> 2 & 0x30303030u);
    to.scales[0] = half_to_float(w0) * number(scale >> at & 255);
    to.offset = -(half_to_float(w0 >> 16) * number(minimum >> at & 255));
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const LaneWords bytes = word(words, (kFifth ? 12 : 4) + 8 * (I / 2) + i);
      to.quads[i] = I % 2 ? high_nibbles(bytes) : low_nibbles(bytes);
      if (kFifth) to.quads[i] |= bits_at<I, 4>(word(words, 4 + i)) & 0x10101010u;
    }
  }
};

// q6_K: 16 groups of 16; a block here is two of them. Its words: interleaved.cpp.
struct Int8Q6_K {
  static constexpr int kCycle = 8;
  static constexpr int64_t kBytes = 26;  // a block's share of 208
  template <int I>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t, Int8Block& to) noexcept {
    using Numbers = int32_t __attribute__((vector_size(64)));
    const LaneWords end = __builtin_convertvector(*reinterpret_cast<const LaneHalves*>(words.end), LaneWords);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const LaneWords high = word(words, I / 2) << static_cast<unsigned>(24 - 8 * (2 * (I % 2) + i));
      const Numbers scale = reinterpret_cast<const Numbers&>(high) >> 24;
      to.scales[i] = half_to_float(end) * __builtin_convertvector(scale, Lanes);
    }
    LaneWords six[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
      six[i] = word(words, 4 + 6 * I + i);
      to.quads[i] = six[i] & 0x3f3f3f3fu;
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
      to.quads[6 + i] =
          (six[3 * i] >> 6 & 0x03030303u) | (six[3 * i + 1] >> 4 & 0x0c0c0c0cu) | (six[3 * i + 2] >> 2 & 0x30303030u);
  }
};

}  // namespace thimble
