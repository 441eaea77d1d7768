// Codes and scales of 16 rows from whole vectors of their words, one lane a row. Layouts are drawn in the codecs'
// files.
#pragma once

#include "kernels/dot/int8_panel.h"
#include "kernels/lanes.h"

namespace thimble {

// 32 elements of each row: codes of elements 4 q .. 4 q + 3; f16 numbers of the scale and, where there is one, of the
// offset; whole numbers that those are multiplied with, in K formats: of the scales of groups, of the offset.
struct Int8Block {
  LaneWords quads[8];
  LaneHalves scale, offset;
  LaneWords scale_times[2], offset_times;
};

// Of a block of 16 rows as interleaved.h has it.
THIMBLE_BODY LaneHalves half(const std::byte* block, int64_t i) noexcept {
  return reinterpret_cast<const LaneHalves*>(block)[i];
}
template <int kHalves>
THIMBLE_BODY LaneWords word(const std::byte* block, int64_t i) noexcept {
  return reinterpret_cast<const LaneWords*>(block + kHalves * sizeof(LaneHalves))[i];
}

THIMBLE_BODY Lanes as_lanes(LaneWords words) noexcept { return reinterpret_cast<const Lanes&>(words); }
using LaneNumbers = int32_t __attribute__((vector_size(64), aligned(4), may_alias));
// Of floats too, where not both are negative: GCC 12 has no minimum of vectors of them.
THIMBLE_BODY LaneNumbers smaller(LaneNumbers a, LaneNumbers b) noexcept { return a < b ? a : b; }

// f16, finite. With its exponent moved, a number below 2^-14 comes out as x = 2^-15 + half of itself. (A product of its
// bits with 2^112 would be slow there.)
THIMBLE_BODY Lanes half_to_float(LaneHalves halves) noexcept {
  const LaneWords bits = __builtin_convertvector(halves, LaneWords);
  const LaneWords moved = ((bits & 0x7fffu) << 13) + (112u << 23), sign = (bits & 0x8000u) << 16;
  const Lanes x = as_lanes(moved), doubled = x + x - 0x1p-14f;
  const auto value = smaller(reinterpret_cast<const LaneNumbers&>(doubled), reinterpret_cast<const LaneNumbers&>(x));
  return as_lanes(reinterpret_cast<const LaneWords&>(value) | sign);
}
THIMBLE_BODY Lanes number(LaneWords words) noexcept {
  return __builtin_convertvector(reinterpret_cast<const LaneNumbers&>(words), Lanes);
}

THIMBLE_BODY LaneWords low_nibbles(LaneWords bytes) noexcept { return bytes & 0x0f0f0f0fu; }
THIMBLE_BODY LaneWords high_nibbles(LaneWords bytes) noexcept { return bytes >> 4 & 0x0f0f0f0fu; }

// The bits from kFrom on, moved to kTo.
template <int kFrom, int kTo>
THIMBLE_BODY LaneWords bits_at(LaneWords words) noexcept {
  if constexpr (kFrom > kTo) return words >> (kFrom - kTo);
  return words << (kTo - kFrom);
}

// read<I>: 32 elements of 16 interleaved rows, which are part I of kParts of a block; how a K format keeps them depends
// on I. scale() and offset(): of a group, its f16 number being given.

// Formats of blocks of 32.
struct Int8Plain {
  static constexpr int kParts = 1;
  THIMBLE_BODY static Lanes scale(Lanes number, const Int8Block&, int) noexcept { return number; }
  THIMBLE_BODY static Lanes offset(Lanes number, const Int8Block&) noexcept { return number; }
};
template <bool kOffset>
struct Int8Q4 : Int8Plain {
  static constexpr int64_t kBytes = kOffset ? 20 : 18;
  template <int>
  THIMBLE_BODY static void read(const std::byte* block, Int8Block& to) noexcept {
    to.scale = half(block, 0);
    if (kOffset) to.offset = half(block, 1);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const LaneWords bytes = word<1 + kOffset>(block, i);
      to.quads[i] = low_nibbles(bytes), to.quads[4 + i] = high_nibbles(bytes);
    }
  }
};
template <bool kOffset>
struct Int8Q5 : Int8Plain {
  static constexpr int64_t kBytes = kOffset ? 24 : 22;
  template <int>
  THIMBLE_BODY static void read(const std::byte* block, Int8Block& to) noexcept {
    to.scale = half(block, 0);
    if (kOffset) to.offset = half(block, 1);
    const LaneWords fifth = word<1 + kOffset>(block, 0);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      const LaneWords bytes = word<1 + kOffset>(block, 1 + q % 4);
      // Bits 4 q .. 4 q + 3, a byte each.
      const LaneWords spread = (fifth >> 4 * q & 15) * 0x00204081u & 0x01010101u;
      to.quads[q] = (q < 4 ? low_nibbles(bytes) : high_nibbles(bytes)) | spread << 4;
    }
  }
};
struct Int8Q8_0 : Int8Plain {
  static constexpr int64_t kBytes = 34;
  template <int>
  THIMBLE_BODY static void read(const std::byte* block, Int8Block& to) noexcept {
    to.scale = half(block, 0);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) to.quads[q] = word<1>(block, q) ^ 0x80808080u;
  }
};

// Formats of super-blocks.
struct Int8Super {
  static constexpr int kParts = 8;
  THIMBLE_BODY static Lanes scale(Lanes number_, const Int8Block& block, int group) noexcept {
    return number_ * number(block.scale_times[group]);
  }
  THIMBLE_BODY static Lanes offset(Lanes number_, const Int8Block& block) noexcept {
    return -(number_ * number(block.offset_times));
  }
};

// q4_K and q5_K: eight groups of 32, six bits of scale and minimum each, packed as in k_fit.h.
template <bool kFifth>
struct Int8Q45K : Int8Super {
  static constexpr int64_t kBytes = kFifth ? 176 : 144;
  template <int I>
  THIMBLE_BODY static void read(const std::byte* block, Int8Block& to) noexcept {
    to.scale = half(block, 0), to.offset = half(block, 1);
    const LaneWords w0 = word<2>(block, 0), w1 = word<2>(block, 1), w2 = word<2>(block, 2);
    constexpr unsigned at = 8 * (I % 4);
    const LaneWords scale = I < 4 ? w0 & 0x3f3f3f3fu : low_nibbles(w2) | (w0 >> 2 & 0x30303030u);
    const LaneWords minimum = I < 4 ? w1 & 0x3f3f3f3fu : high_nibbles(w2) | (w1 >> 2 & 0x30303030u);
    to.scale_times[0] = scale >> at & 255, to.offset_times = minimum >> at & 255;
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const LaneWords bytes = word<2>(block, (kFifth ? 11 : 3) + 8 * (I / 2) + i);
      to.quads[i] = I % 2 ? high_nibbles(bytes) : low_nibbles(bytes);
      if (kFifth) to.quads[i] |= bits_at<I, 4>(word<2>(block, 3 + i)) & 0x10101010u;
    }
  }
};

// q6_K: 16 groups of 16. Its words: interleaved.cpp.
struct Int8Q6_K : Int8Super {
  static constexpr int64_t kBytes = 210;
  template <int I>
  THIMBLE_BODY static void read(const std::byte* block, Int8Block& to) noexcept {
    using Numbers = int32_t __attribute__((vector_size(64)));
    to.scale = half(block, 0);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const LaneWords high = word<1>(block, I / 2) << static_cast<unsigned>(24 - 8 * (2 * (I % 2) + i));
      const Numbers scale = reinterpret_cast<const Numbers&>(high) >> 24;
      to.scale_times[i] = reinterpret_cast<const LaneWords&>(scale);
    }
    LaneWords six[6];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
      six[i] = word<1>(block, 4 + 6 * I + i);
      to.quads[i] = six[i] & 0x3f3f3f3fu;
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
      to.quads[6 + i] =
          (six[3 * i] >> 6 & 0x03030303u) | (six[3 * i + 1] >> 4 & 0x0c0c0c0cu) | (six[3 * i + 2] >> 2 & 0x30303030u);
  }
};

}  // namespace thimble
