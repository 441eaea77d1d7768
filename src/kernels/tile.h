// Writing a tile of accumulators to C; compiled for each instruction set.
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

}  // namespace thimble
