// Products of quantised weights with int8 activations, for inference (`--multiply int8`).
//
// Activations are cut into blocks of 32: code = round(x / scale), scale = max|x| / 127. Weights are cut as their format
// says, into groups of 32 or 16 with a scale each. Products of codes are summed in int32, exactly. In f32, one element
// of the result is
//
//   sum over groups of (sum of code products) * (scale of the group * scale of x),  in one chain, ascending
//   + sum over groups of (offset of the group * sum of x),  likewise, for formats that have offsets
//
// Each group is a product and an addition, both rounded. Every instruction set gives the same bits, and a result does
// not depend on what is computed beside it.
//
// 16 rows of a weight are taken together, one lane a row: no sum over lanes is needed, and every format shares the same
// inner loops. Interleaved rows (codecs/interleaved.h) are read as they lie, plain ones are interleaved piece by piece.
// With one row of x they stay in registers; with several, a piece is unpacked into a panel first.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codecs/interleaved.h"

namespace thimble {

constexpr int64_t kDotBlock = 32;  // elements of x that share a scale
constexpr int64_t kDotRows = kInterleavedRows;
constexpr int64_t kDotPiece = 256;  // whole blocks of every format

// value = scale * (code - zero) + offset, codes being unsigned bytes.
struct Int8Format;

// The format of a codec that has int8 products, for rows of n elements; nullptr where there is none.
const Int8Format* int8_format(const Codec& codec, int64_t n);

// Whether this CPU has instructions that make int8 products the fastest ones: measured with VNNI and with AVX2 alone
// (bench/narrow_bench.cpp), and on AArch64 by the number of instructions, for want of a CPU to measure on.
bool int8_is_fast();

// Rows of n activations, n a multiple of 32.
struct Int8Rows {
  std::byte* data;
  int64_t n;

  static int64_t row_bytes(int64_t n) { return n + n / kDotBlock * 16; }
  int8_t* codes(int64_t row) const { return reinterpret_cast<int8_t*>(data + row * row_bytes(n)); }
  float* scales(int64_t row) const { return reinterpret_cast<float*>(codes(row) + n); }  // [n / 32]
  float* sums(int64_t row) const { return scales(row) + n / kDotBlock; }  // [n / 32]: scale times the sum of codes
  // [n / group of the weight]: minus the weight's zero times the sum of codes
  int32_t* corrections(int64_t row) const { return reinterpret_cast<int32_t*>(sums(row) + n / kDotBlock); }
};

void quantise_int8(const float* x, const Int8Format& format, const Int8Rows& to, int64_t row) noexcept;

// out[r * 16 + c] += scale * (row c of the weights . row r of x), r < m, c < columns <= 16. Weight rows are `stride`
// bytes apart, or 16 interleaved ones. sums: [2, m, 16] to work in. The reference takes plain rows.
struct Int8Weights {
  const Int8Format& format;
  const std::byte* data;
  int64_t stride;
  int64_t columns;
  bool interleaved = false;
};
void multiply_int8(const Int8Weights& weights, const Int8Rows& x, int64_t m, float scale, float* out,
                   float* sums) noexcept;
// The scalar reference of the same.
void multiply_int8_reference(const Int8Weights& weights, const Int8Rows& x, int64_t m, float scale, float* out,
                             float* sums) noexcept;

}  // namespace thimble
