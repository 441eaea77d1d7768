// Leaving out what is negligible of a tile of the logits' gradient: columns of the vocabulary in which it is below a
// bound for every row of the granule. The others move together, so that the products after are of these alone.
//
//   Paper    Wijmans et al. 2024, "Cut Your Losses", arXiv:2411.09009, section 4.3 (gradient filtering)
//   Choice   by columns of a granule instead of blocks of 128 by 128: no sorting of the vocabulary is needed
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "core/round.h"
#include "core/threads.h"
#include "kernels/rows.h"
#include "ops/table.h"

namespace thimble {

class Negligible {
 public:
  // Over no more than three quarters of a tile's columns, moving them together is worth it.
  static constexpr int64_t most(int64_t tile) { return tile * 3 / 4; }
  static int64_t bytes(int64_t tile, int threads) { return round_up(tile * (threads + 4), 64); }

  Negligible() = default;
  Negligible(std::byte* memory, int64_t tile, int threads)
      : kept_(reinterpret_cast<int32_t*>(memory)),
        marks_(reinterpret_cast<uint8_t*>(memory + 4 * tile)),
        tile_(tile),
        threads_(threads) {}

  explicit operator bool() const { return kept_ != nullptr; }

  // One for each column, by a thread: whether it is to be kept.
  uint8_t* marks(int thread) const { return marks_ + thread * tile_; }
  void clear() const { std::fill(marks_, marks_ + threads_ * tile_, uint8_t{0}); }

  // The columns that anybody has marked, in order.
  std::span<const int32_t> keep(int64_t columns) const {
    int64_t count = 0;
    for (int64_t c = 0; c < columns; ++c) {
      uint8_t mark = 0;
      for (int thread = 0; thread < threads_; ++thread) mark |= marks(thread)[c];
      if (mark) kept_[count++] = static_cast<int32_t>(c);
    }
    return {kept_, static_cast<size_t>(count)};
  }

 private:
  int32_t* kept_ = nullptr;
  uint8_t* marks_ = nullptr;
  int64_t tile_ = 0;
  int threads_ = 0;
};

// Those columns of `rows` rows of f32 or bf16, moved to each row's beginning.
inline void compact_rows(Threads& threads, const Matrix& matrix, std::span<const int32_t> columns) noexcept {
  threads.split(matrix.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const auto move = [&](auto* row) {
        for (size_t i = 0; i < columns.size(); ++i) row[i] = row[columns[i]];
      };
      std::byte* const row = const_cast<std::byte*>(matrix.row(r));
      matrix.codec == &kF32 ? move(reinterpret_cast<float*>(row)) : move(reinterpret_cast<uint16_t*>(row));
    }
  });
}

}  // namespace thimble
