// Parts of pointwise: what its files share, and its minimum and maximum.
#pragma once

#include <cstddef>

#include "codecs/dispatch.h"
#include "graph/op.h"

namespace thimble {

inline constexpr size_t kMostPointwise = 256;  // instructions of one node

// Where either is not a number, neither is the result: damage shows in the loss.
template <class T>
THIMBLE_BODY T smaller(T a, T b) noexcept {
  return __builtin_isnan(a) || a < b ? a : b;
}
template <class T>
THIMBLE_BODY T larger(T a, T b) noexcept {
  return __builtin_isnan(a) || a > b ? a : b;
}

Result<void> pointwise_gradient(Backward& backward, const Node& node);
Result<void> pointwise_tangent(Tangents& tangents, const Node& node);

}  // namespace thimble
