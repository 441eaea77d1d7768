// What the instruction sets of int8_dot.h share: a piece of 16 weight rows whose lanes are rows.
#pragma once

#include "kernels/dot/int8_dot.h"

namespace thimble {

struct Int8Panel {
  alignas(64) uint8_t codes[kDotPiece / 4][kDotRows][4];  // of elements 4 i .. 4 i + 3
  alignas(64) float scales[kDotPiece / 16][kDotRows];     // of each group
  alignas(64) float offsets[kDotPiece / 32][kDotRows];
};

// Elements of 16 rows, `stride` bytes apart.
struct Int8Source {
  const std::byte* data;
  int64_t stride;
  int64_t count;
};
// Of `count` elements of 16 interleaved rows.
using PackInt8 = void (*)(const std::byte* group, int64_t count, Int8Panel& panel) noexcept;
using PackInt8Reference = void (*)(const Int8Source& source, Int8Panel& panel) noexcept;

// Elements [first, first + count) of rows [row, row + m) of x.
struct Int8Piece {
  const Int8Rows& x;
  int64_t row, first, count;
};
// sums[r][c] and rests[r][c] go on: the two chains of int8_dot.h.
using MultiplyInt8 = void (*)(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                              float* sums, float* rests) noexcept;
// The same for one row of x, straight from interleaved rows.
using MultiplyOneInt8 = void (*)(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept;

struct Int8Format {
  const Codec* codec;
  int group;     // elements that share a scale: 32, or 16
  int zero;      // code of the value 0
  bool offsets;  // needs groups of 32
  PackInt8 pack;
  PackInt8Reference pack_reference;
  MultiplyOneInt8 multiply_one;  // on VNNI
};

void multiply_panel_avx2(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept;
void multiply_panel_vnni(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept;

// One a format: int8_pack.cpp, int8_dot_vnni.cpp.
void pack_q4_0(const std::byte* group, int64_t count, Int8Panel& panel) noexcept;
void pack_q4_1(const std::byte* group, int64_t count, Int8Panel& panel) noexcept;
void pack_q5_0(const std::byte* group, int64_t count, Int8Panel& panel) noexcept;
void pack_q8_0(const std::byte* group, int64_t count, Int8Panel& panel) noexcept;
void pack_q4_K(const std::byte* group, int64_t count, Int8Panel& panel) noexcept;
void pack_q5_K(const std::byte* group, int64_t count, Int8Panel& panel) noexcept;
void pack_q6_K(const std::byte* group, int64_t count, Int8Panel& panel) noexcept;
void multiply_q4_0(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept;
void multiply_q4_1(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept;
void multiply_q5_0(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept;
void multiply_q8_0(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept;
void multiply_q4_K(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept;
void multiply_q5_K(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept;
void multiply_q6_K(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept;

}  // namespace thimble
