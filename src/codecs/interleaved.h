// Matrices whose rows lie 16 at a time, word by word, so that one vector holds the same word of 16 rows: what products
// of few rows with int8 activations read at the speed of memory (kernels/dot). As large as the rows themselves:
//
//   rows 16 g .. 16 g + 15 are group g, at the address of its first row; rows behind the last whole group lie plainly
//   group   block 0 of its 16 rows, block 1, ...
//   block   its f16 numbers: number 0 of the 16 rows, number 1; then all else: word 0 of the 16 rows, word 1, ...
//
// Words are in the order of the codec's block; those of q6_K are put in another one first (interleaved.cpp).
#pragma once

#include "codecs/codec.h"

namespace thimble {

constexpr int64_t kInterleavedRows = 16;

// The home of rows of a codec in that order: it has no decode and no encode, Matrix::decode() (kernels/gemm.h) reads
// it. nullptr unless the codec is one of GGUF's blocks.
const Codec* interleaved(const Codec& codec);

// 16 rows of `columns` elements, `stride` bytes apart, in a codec that has such a home: as a group.
void interleave_rows(const Codec& codec, const std::byte* rows, int64_t stride, int64_t columns,
                     std::byte* group) noexcept;

// Elements [first, first + count) of row `row` < 16 of a group of rows of such a codec, as f32: whole blocks.
void decode_interleaved(const Codec& codec, const std::byte* group, int64_t row, int64_t first, int64_t count,
                        float* to) noexcept;

}  // namespace thimble
