// Writing a tile of accumulators to C, and words of bf16 for panels; compiled for each instruction set.
#pragma once

#include <cstdint>

namespace thimble {

// C = acc (+ bias) (+ addend) for a tile, rounded once. Strides in elements; bias [columns] and addend may be null, and
// addend may be C.
struct TileStore {
  const float* acc;
  int64_t acc_stride;
  int64_t rows, columns;
  const float* bias;
  int64_t stride;  // of C and addend
};
void store_tile(const TileStore& tile, float* c, const float* addend) noexcept;
void store_tile(const TileStore& tile, uint16_t* c, const uint16_t* addend) noexcept;  // bf16

// to[i] = low[i] in the lower, high[i] in the upper half.
void interleave_words(const uint16_t* low, const uint16_t* high, uint32_t* to, int64_t count) noexcept;

// Rows of A^T, `stride` elements apart, cut into tiles of `width` columns (4 or 8):
//   interleave_tiles  [tiles, words, width] words of the elements of rows 2 w (the lower half) and 2 w + 1
//   widen_tiles       [tiles, words, width] elements of row w as f32
void interleave_tiles(const uint16_t* from, int64_t stride, int64_t words, int64_t tiles, int64_t width,
                      uint32_t* to) noexcept;
void widen_tiles(const uint16_t* from, int64_t stride, int64_t words, int64_t tiles, int64_t width,
                 uint32_t* to) noexcept;
void widen_tiles(const float* from, int64_t stride, int64_t words, int64_t tiles, int64_t width, uint32_t* to) noexcept;

}  // namespace thimble
