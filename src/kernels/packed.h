// Products of small operands that meet several times, as the tiles of attention do: each is laid out once, then
// multiplied as often as needed, on the calling thread.
//
// Numerics: an element of C is one chain over k in ascending order in f32, beginning with its old value when it is
// added to; otherwise as in gemm.h.
#pragma once

#include "kernels/gemm_pack.h"

namespace thimble {

// Room for [rows, k] of any codec, and scratch that laying out takes.
int64_t left_bytes(Multiply multiply, int64_t rows, int64_t k);
int64_t right_bytes(Multiply multiply, int64_t k, int64_t n);
int64_t lay_scratch_bytes(Multiply multiply, int64_t most_k, const Codec& codec);

// A [m, k], or [k, m] when transposed: where it is if it can be read there, or in `room`.
Rows lay_left(Multiply multiply, const Matrix& a, bool transposed, std::byte* room, float* scratch) noexcept;
// B [k, n], or [n, k] when transposed.
void lay_right(Multiply multiply, const Matrix& b, bool transposed, std::byte* room, float* scratch) noexcept;

// Rows of A, from a multiple of so many on, are multiplied together, and depths are left out by multiples of
// depths_together(): what is out of reach of one row is read where it is in reach of another, and has to be zero.
int64_t rows_together(Multiply multiply);
int64_t depths_together(Multiply multiply);

// What of a product is wanted, or not known to be zero: of row r, columns or depths k from, or up to, r + shift.
struct Reach {
  enum Kind { all, columns_from, columns_to, depth_from, depth_to } kind = all;
  int64_t shift = 0;
};

// Rows of C are `stride` floats apart and have room for n rounded up to 16. Columns that are not wanted may be left as
// they were.
struct PackedProduct {
  Rows a;
  const std::byte* b;
  int64_t m, k, n;
  float* c;
  int64_t stride;
  bool accumulate = false;
  Reach reach = {};
};
void multiply_packed(Multiply multiply, const PackedProduct& product) noexcept;

}  // namespace thimble
