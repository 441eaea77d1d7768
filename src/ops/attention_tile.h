// One tile of attention: queries at consecutive positions of one sequence, of the heads that share a key head, over the
// keys that they see. Training, evaluation and the filling of a cache are made of these.
//
//   Paper  Dao et al. 2022, arXiv:2205.14135, Algorithm 1
//   Order  tiles of keys begin at multiples of their size, and products do not depend on the number of rows, so that
//          the bits of a row do not depend on which rows are beside it
#pragma once

#include "ops/table.h"

namespace thimble {

// Rows of queries at once: a tile of keys is laid out once for some 192 rows of all heads that share it.
int64_t query_tile(const AttentionAttributes& attributes);

struct AttentionTile {
  Matrix q, y;                      // [rows, head_dim] of the first head; the others are head_dim columns further
  Matrix k, v;                      // [any, head_dim], from position 0 on
  int64_t position = 0;             // of the first row
  const int32_t* starts = nullptr;  // [rows]: first positions that may be seen; nullptr: 0
  float* lse = nullptr;             // [rows, heads] of the first head; nullptr: not wanted
  const float* bias = nullptr;      // [heads, bias_stride] of the first head, by place in the sequence; nullptr: none
  int64_t bias_stride = 0;

  int64_t rows() const { return q.rows; }  // at most query_tile()
};

// One thread's.
int64_t attention_tile_bytes(const AttentionAttributes& attributes, const Codec& q, const Codec& k, Multiply multiply);

void attend_tile(const AttentionAttributes& attributes, const AttentionTile& tile, Multiply multiply,
                 std::byte* memory) noexcept;

}  // namespace thimble
