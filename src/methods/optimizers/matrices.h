// Products and statistics of whole matrices that optimizers share, as nodes of the graph. Everything is f32.
#pragma once

#include "methods/optimizer.h"
#include "ops/table.h"

namespace thimble {

ValueId product(Graph& graph, ValueId x, ValueId w, const std::string& name);             // x w
ValueId product_transposed(Graph& graph, ValueId x, ValueId w, const std::string& name);  // x w^T
ValueId inner(Graph& graph, ValueId left, ValueId right, const std::string& name);        // left^T right

// Orthonormal columns that span those of x [m, n], m >= n: the Q of its QR factorisation.
ValueId orthonormal(Graph& graph, ValueId x, const std::string& name);
// Eigenvectors of the symmetric x [n, n], one a column, of the largest value first.
ValueId eigenvectors(Graph& graph, ValueId x, const std::string& name);

ValueId reduce(Graph& graph, ValueId x, Reduce kind, ReduceOver over, const std::string& name);
// Of all elements: [1].
inline ValueId squared_length(Graph& graph, ValueId x, const std::string& name) {
  return reduce(graph, x, Reduce::squares, ReduceOver::all, name);
}

// x / |x|, brought near to orthogonal by iterations of Newton and Schulz (Jordan et al. 2024,
// https://kellerjordan.github.io/posts/muon): singular values between about 0.7 and 1.2 instead of its own.
ValueId nearly_orthogonal(Graph& graph, ValueId x, int iterations, const std::string& name);

}  // namespace thimble
