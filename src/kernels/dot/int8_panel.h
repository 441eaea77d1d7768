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

// The formats, in the order of the kernels' tables.
enum class Int8Kind { q4_0, q4_1, q5_0, q5_1, q8_0, q4_K, q5_K, q6_K };

struct Int8Format {
  Int8Kind kind;
  const Codec* codec;
  int group;     // elements that share a scale: 32, or 16
  int zero;      // code of the value 0
  int bits;      // of a code
  bool offsets;  // needs groups of 32
  PackInt8Reference pack_reference;
};

// A call of `go` with what a panel's kernel depends on: G, kOffsets, kBits.
template <class Go>
void by_format(const Int8Format& format, Go go) noexcept {
  if (format.offsets)
    return format.bits == 4 ? go.template operator()<32, true, 4>() : go.template operator()<32, true, 5>();
  if (format.bits == 4) return go.template operator()<32, false, 4>();
  if (format.bits == 5) return go.template operator()<32, false, 5>();
  return format.group == 32 ? go.template operator()<32, false, 8>() : go.template operator()<16, false, 6>();
}

PackInt8 pack_int8(Int8Kind kind) noexcept;

// One file an instruction set.
void multiply_panel_avx2(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept;
void multiply_panel_avx_vnni(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                             float* sums, float* rests) noexcept;
void multiply_panel_vnni(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept;
void multiply_panel_neon(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept;
void multiply_panel_dotprod(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                            float* sums, float* rests) noexcept;
void multiply_panel_i8mm(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept;
MultiplyOneInt8 multiply_one_avx2(Int8Kind kind) noexcept;
MultiplyOneInt8 multiply_one_avx_vnni(Int8Kind kind) noexcept;
MultiplyOneInt8 multiply_one_vnni(Int8Kind kind) noexcept;
MultiplyOneInt8 multiply_one_neon(Int8Kind kind) noexcept;
MultiplyOneInt8 multiply_one_dotprod(Int8Kind kind) noexcept;

}  // namespace thimble
