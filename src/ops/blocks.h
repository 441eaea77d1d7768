// Operations on block-diagonal matrices, of which only the blocks are stored, one under the other.
#pragma once

#include "graph/op.h"

namespace thimble {

// y = x B, block by block, B = diag(B_1 ... B_n).  in: x [t, n * k], w f32 [n * k, m], the blocks B_i;  out: y [t, n *
// m]. transposed: w is [n * m, k], the blocks B_i^T. shared: w is one block that all n are.
struct BlockLinearAttributes {
  int64_t blocks = 1;
  bool transposed = false;
  bool shared = false;
  const Codec* codec = &kF32;  // of y
  bool operator==(const BlockLinearAttributes&) const = default;
};
extern const Op kBlockLinear;
// in: accumulator like w, x, dy: what y's gradient gives w's, over granules of 512 rows.
extern const Op kBlockLinearDw;

// c_i = a_i b_i for matrices one under the other.  in: a [n * m, k], b [n * k, p], f32;  out: c [n * m, p].
// left: a is [n * k, m], the a_i^T; right: b is [n * p, k], the b_i^T. Not both.
struct BlockProductAttributes {
  int64_t blocks = 1;
  bool left = false, right = false;
  bool operator==(const BlockProductAttributes&) const = default;
};
extern const Op kBlockProduct;

// in: a f32 [n * k, k];  out: the inverse of every block. Where one is singular, its numbers are not finite.
struct BlockInverseAttributes {
  int64_t blocks = 1;
  bool operator==(const BlockInverseAttributes&) const = default;
};
extern const Op kBlockInverse;

}  // namespace thimble
