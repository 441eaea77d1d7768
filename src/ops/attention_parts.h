// What attention and its gradient share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "ops/table.h"

namespace thimble {

// Rows [row, row + rows) of one head of a [t, heads * head_dim] operand.
inline Matrix head_rows(const Operand& x, int64_t head, int64_t head_dim, int64_t row, int64_t rows) noexcept {
  const int64_t element = x.codec->block_bytes, columns = x.shape[1];
  return {x.codec, x.data + (row * columns + head * head_dim) * element, rows, head_dim, columns * element};
}

// Pairs of a query and a key that are computed: half of the square of each sequence.
inline double causal_pairs(const AttentionAttributes& a, int64_t rows) {
  int64_t seen = a.longest ? std::min(rows, a.longest) : rows;
  if (a.window) seen = std::min(seen, 2 * a.window);
  return 0.5 * static_cast<double>(rows) * static_cast<double>(seen);
}

// Which keys a query may see: row i sees max(starts[i], i - window + 1) .. i.
struct AttentionMask {
  const int32_t* starts;
  int64_t window;  // 0: none

  int64_t first(int64_t row) const noexcept {
    const int64_t start = starts[row];
    return window ? std::max(start, row - window + 1) : start;
  }
  // The least of rows [row, end).
  int64_t first_of(int64_t row, int64_t end) const noexcept {
    int64_t least = first(row);
    for (int64_t i = row + 1; i < end; ++i) least = std::min(least, first(i));
    return least;
  }
};

}  // namespace thimble
