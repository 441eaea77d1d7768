// Codes and scales of 16 rows from whole vectors of their words, one lane a row. Layouts are drawn in the codecs'
// files.
#pragma once

#include "kernels/dot/int8_panel.h"
#include "kernels/lanes.h"

namespace thimble {

// A piece of 16 rows as columns of words; what reading two words at once may touch is there too.
struct Int8Words {
  static constexpr int64_t kMost = kDotPiece / 32 * 34 / 4 + 1;  // of q8_0, the longest
  alignas(64) uint32_t of[kMost][kDotRows];
  alignas(64) uint32_t end[kDotRows];  // q6_K: the scale that lies behind whole words, f16
};

// 32 elements of each row: codes of elements 4 q .. 4 q + 3, scales of the groups, offset.
struct Int8Block {
  LaneWords quads[8];
  Lanes scales[2], offset;
};

THIMBLE_BODY LaneWords word(const Int8Words& words, int64_t i) noexcept {
  return *reinterpret_cast<const LaneWords*>(words.of[i]);
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

// Formats of blocks of 32: block b of a row begins at half-word b * kBytes / 2.
struct Int8Q4_0 {
  static constexpr int64_t kBytes = 18;
  template <bool kOdd>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t h, Int8Block& to) noexcept {
    const LaneWords head = word(words, h / 2);
    to.scales[0] = half_to_float(kOdd ? head >> 16 : head);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const LaneWords bytes = word_at<!kOdd>(words, h + 1 + 2 * i);
      to.quads[i] = low_nibbles(bytes), to.quads[4 + i] = high_nibbles(bytes);
    }
  }
};
struct Int8Q4_1 {
  static constexpr int64_t kBytes = 20;
  template <bool kOdd>
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
  static constexpr int64_t kBytes = 22;
  template <bool kOdd>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t h, Int8Block& to) noexcept {
    const LaneWords head = word(words, h / 2);
    to.scales[0] = half_to_float(kOdd ? head >> 16 : head);
    const LaneWords fifth = word_at<!kOdd>(words, h + 1);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      const LaneWords bytes = word_at<!kOdd>(words, h + 3 + 2 * (q % 4));
      // Bits 4 q .. 4 q + 3, a byte each.
      const LaneWords spread = (fifth >> 4 * q & 15) * 0x00204081u & 0x01010101u;
      to.quads[q] = (q < 4 ? low_nibbles(bytes) : high_nibbles(bytes)) | spread << 4;
    }
  }
};
struct Int8Q8_0 {
  static constexpr int64_t kBytes = 34;
  template <bool kOdd>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t h, Int8Block& to) noexcept {
    const LaneWords head = word(words, h / 2);
    to.scales[0] = half_to_float(kOdd ? head >> 16 : head);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) to.quads[q] = word_at<!kOdd>(words, h + 1 + 2 * q) ^ 0x80808080u;
  }
};

// q4_K and q5_K: eight groups of 32, six bits of scale and minimum each, packed as in k_fit.h.
template <bool kFifth>
struct Int8Q45K {
  static constexpr int64_t kBytes = kFifth ? 22 : 18;  // a block's share of 176, or 144
  template <bool kOdd>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t h, Int8Block& to) noexcept {
    const int64_t g = 2 * h / kBytes;
    const LaneWords w0 = word(words, 0), w1 = word(words, 1), w2 = word(words, 2), w3 = word(words, 3);
    const unsigned at = static_cast<unsigned>(8 * (g % 4));
    const LaneWords scale = g < 4 ? w1 & 0x3f3f3f3fu : low_nibbles(w3) | (w1 >> 2 & 0x30303030u);
    const LaneWords minimum = g < 4 ? w2 & 0x3f3f3f3fu : high_nibbles(w3) | (w2 >> 2 & 0x30303030u);
    to.scales[0] = half_to_float(w0) * number(scale >> at & 255);
    to.offset = -(half_to_float(w0 >> 16) * number(minimum >> at & 255));
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const LaneWords bytes = word(words, (kFifth ? 12 : 4) + 8 * (g / 2) + i);
      to.quads[i] = kOdd ? high_nibbles(bytes) : low_nibbles(bytes);
      if (kFifth) to.quads[i] |= (word(words, 4 + i) >> static_cast<unsigned>(g) & 0x01010101u) << 4;
    }
  }
};

// q6_K: 16 groups of 16; a block here is two of them.
struct Int8Q6_K {
  static constexpr int64_t kBytes = 26;  // a block's share of 208
  template <bool kOdd>
  THIMBLE_BODY static void read(const Int8Words& words, int64_t h, Int8Block& to) noexcept {
    using Numbers = int32_t __attribute__((vector_size(64)));
    const int64_t b = 2 * h / kBytes, half = b / 4;
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const LaneWords high = word(words, 48 + b / 2) << static_cast<unsigned>(24 - 8 * (2 * (b % 2) + i));
      const Numbers scale = reinterpret_cast<const Numbers&>(high) >> 24;
      to.scales[i] =
          half_to_float(*reinterpret_cast<const LaneWords*>(words.end)) * __builtin_convertvector(scale, Lanes);
    }
    const unsigned low_shift = static_cast<unsigned>(b % 4 / 2 * 4), high_shift = static_cast<unsigned>(b % 4 * 2);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const LaneWords low = word(words, 16 * half + (kOdd ? 8 : 0) + i) >> low_shift & 0x0f0f0f0fu;
      to.quads[i] = low | (word(words, 32 + 8 * half + i) >> high_shift & 0x03030303u) << 4;
    }
  }
};

// Block b of a piece, b being odd or even as `odd` says: formats of half-words differ there.
template <class F, int odd>
THIMBLE_BODY void read_block(const Int8Words& words, int64_t b, Int8Block& to) noexcept {
  F::template read<odd == 1 && F::kBytes % 4 != 0>(words, b * F::kBytes / 2, to);
}

}  // namespace thimble
