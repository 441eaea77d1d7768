// Brings operands of a product into the layouts of the micro-kernel.
#pragma once

#include "kernels/gemm.h"
#include "kernels/micro.h"

namespace thimble {

// k rounded up to whole pairs.
inline int64_t padded(int64_t k, const MicroKernel& micro) { return (k + micro.pair - 1) / micro.pair * micro.pair; }

// Panels that are packed together, so that blocks of the codec are decoded once.
int64_t panels_together(const MicroKernel& micro, int64_t block, bool b_transposed);

// f32 scratch that pack_b needs, in floats.
int64_t pack_scratch_floats(const MicroKernel& micro, int64_t k, int64_t block);

// Packs columns [column, column + count) of B into panels [count / columns][k / pair, columns, pair]; columns beyond B
// and k beyond the term are zero.
void pack_b(const MicroKernel& micro, const Term& term, int64_t k, int64_t column, int64_t count, int64_t n,
            std::byte* panels, float* scratch) noexcept;

// Packs rows [row, row + count) of A into `to`: row-major [count, padded(k)] in the multiplied type.
void pack_a(const MicroKernel& micro, const Term& term, int64_t k, int64_t row, int64_t count, std::byte* to,
            float* scratch) noexcept;

// Whether the micro-kernel can read A where it is.
bool reads_directly(const MicroKernel& micro, const Term& term, int64_t k);

}  // namespace thimble
