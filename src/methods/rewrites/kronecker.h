// What techniques share whose weights are made of Kronecker products: element (i b + k, j d + l) of x (x) y is
// x[i, j] y[k, l], so that x (x) y = (P x R^T) * (Q y S^T) with constant selections of rows P, Q, R and S.
#pragma once

#include <string>

#include "methods/rewrite.h"

namespace thimble {

// [rows, n]: row i has a one at i / divisor % n.
ValueId selection(ModuleRewrite& m, int64_t rows, int64_t n, int64_t divisor);
// left right, or left right^T, in f32.
ValueId multiplied(ModuleRewrite& m, ValueId left, ValueId right, bool transposed, std::string name);

}  // namespace thimble
