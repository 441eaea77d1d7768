// Matrices whose rows lie 16 at a time, word by word, so that one vector holds the same word of 16 rows: what products
// of few rows with int8 activations read at the speed of memory (kernels/dot). As large as the rows themselves:
//
//   rows 16 g .. 16 g + 15 are group g, at the address of its first row; rows behind the last whole group lie plainly
//   group   pieces of 256 elements, the last one of what is left
//   piece   word 0 of its 16 rows, word 1, ...; where a row's part ends in half a word, 16 such halves
//
// Words are the row's, but for q6_K, whose bits are put in another order first.
#pragma once

#include "codecs/codec.h"

namespace thimble {

constexpr int64_t kInterleavedRows = 16;
constexpr int64_t kInterleavedPiece = 256;

// The home of rows of a codec in that order: it has no decode and no encode, Matrix::decode() (kernels/gemm.h) reads
// it. nullptr unless the codec is one of GGUF's blocks.
const Codec* interleaved(const Codec& codec);

// A row's piece as its words are taken from it: the piece itself, or put in order in `memory`, as large.
const std::byte* arranged(const Codec& rows, const std::byte* piece, std::byte* memory) noexcept;

// 16 rows of `columns` elements, one after another, in the codec of an interleaved one: as a group.
void interleave_rows(const Codec& interleaved, const std::byte* rows, int64_t columns, std::byte* group) noexcept;

// Elements [first, first + count) of row `row` < 16 of a group as f32, whole blocks but at the end of the row.
void decode_interleaved(const Codec& interleaved, const std::byte* group, int64_t columns, int64_t row, int64_t first,
                        int64_t count, float* to) noexcept;

}  // namespace thimble
