// Brings operands of a product into the layouts of the micro-kernel.
#pragma once

#include "kernels/gemm.h"
#include "kernels/micro.h"

namespace thimble {

// The one that a product goes through.
const MicroKernel& micro_kernel(Multiply multiply);

// k rounded up to whole pairs.
inline int64_t padded(int64_t k, const MicroKernel& micro) { return (k + micro.pair - 1) / micro.pair * micro.pair; }

constexpr int64_t kMostTogether = 16;  // panels, by one call of pack_b

// Panels that have to be packed together, so that blocks of the codec are decoded once.
int64_t panels_together(const MicroKernel& micro, int64_t block, bool b_transposed);

// f32 scratch that pack_b needs, in floats.
int64_t pack_scratch_floats(const MicroKernel& micro, int64_t k, int64_t block);

// Packs columns [column, column + count) of B into panels [count / columns][k / pair, columns, pair]; columns beyond B
// and k beyond the term are zero.
void pack_b(const MicroKernel& micro, const Term& term, int64_t k, int64_t column, int64_t count, int64_t n,
            std::byte* panels, float* scratch) noexcept;

// A as the micro-kernel reads it: pair p of row r begins at element r * row_stride + p * step.
struct Rows {
  const std::byte* data;
  int64_t row_stride, step;
};

// Packs rows [row, row + count) of A into `to`, in the multiplied type: row-major [count, padded(k)]; or, when A is
// transposed and not read along its rows, [count / micro.rows, k / pair, micro.rows, pair], rows beyond `count` zero.
void pack_a(const MicroKernel& micro, const Term& term, int64_t k, int64_t row, int64_t count, std::byte* to,
            float* scratch) noexcept;

// Where row `row` (a multiple of micro.rows) is after pack_a() from row 0 on.
Rows packed_rows(const MicroKernel& micro, bool a_transposed, int64_t k, const std::byte* packed, int64_t row);

// Scratch that pack_a needs for at most kPackRows rows, in floats.
constexpr int64_t kPackRows = 64;
int64_t pack_a_scratch_floats(int64_t k, int64_t block);

// Whether the micro-kernel can read A where it is.
bool reads_directly(const MicroKernel& micro, const Term& term, int64_t k);

}  // namespace thimble
