// Rows of f32 or bf16 as the 32-bit words of panels and packed rows (gemm_pack.h); compiled for each instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codecs/codec.h"

namespace thimble {

// What a word holds: a pair of bf16 that follow one another in k (the first in the lower half), an f32, or an f32
// rounded to bf16.
enum class Word { pair, f32, rounded };

// Rows of f32 or bf16, `stride` elements apart.
struct WordRows {
  const std::byte* data;
  const Codec* codec;
  int64_t stride;
};

// k runs over rows: word w of column i is of row w, or of rows 2 w and 2 w + 1. Tiles of `width` columns (4, 8, 12,
// 16, 24, 32 or 48): to [tiles, words, width].
struct TileCut {
  int64_t words, tiles, width;
};
void cut_tiles(Word word, const WordRows& from, const TileCut& cut, uint32_t* to) noexcept;

// k runs along `rows` rows (16, or fewer): to[w * to_stride + r] = word w of row r.
void turn_rows(Word word, const WordRows& from, int64_t rows, int64_t words, uint32_t* to, int64_t to_stride) noexcept;

}  // namespace thimble
