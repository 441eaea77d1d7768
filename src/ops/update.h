// Operations of the update: pointwise programs, and the barrier of global-norm clipping.
#pragma once

#include "graph/op.h"

namespace thimble {

extern const Op kPointwise;  // attributes: PointwiseAttributes

// Sum of squares of a gradient.  in: x;  out: [1]. Blocks of 4096 elements in f32 lanes, then over blocks in double.
extern const Op kSquaredNorm;

// in: any number of squared norms [1];  out: scale [1] = min(1, limit / (norm + 1e-6))
// (torch.nn.utils.clip_grad_norm_), norm [1]. limit 0: no clipping, scale 1.
struct ClipAttributes {
  double limit = 1;
  bool operator==(const ClipAttributes&) const = default;
};
extern const Op kClipScale;

}  // namespace thimble
