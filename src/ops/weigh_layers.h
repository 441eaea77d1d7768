// Of every token, its rows in several layers as one: weighed by how they agree with a query, and by how little they
// repeat one another.
#pragma once

#include "graph/op.h"

namespace thimble {

// y = sum over i of a_i x_i, row by row, with a = v / (sum of v), v_i = max(q . x_i, 0) / r_i and the redundancy
// r_i = sum over j of max(cos(x_i, x_j), 0), of which x_i itself is 1.  in: q, x_1 ... x_n [t, d];  out: y [t, d].
extern const Op kWeighLayers;
extern const Op kWeighLayersGrad;  // in: dy, q, x_1 ... x_n;  out: dq, dx_1 ... dx_n
// The derivative of y along a direction.  in: q, x_1 ... x_n, and their derivatives (any of them may be absent: 0).
extern const Op kWeighLayersTangent;

}  // namespace thimble
