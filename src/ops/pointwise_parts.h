// What the two files of pointwise share.
#pragma once

#include <cstddef>

#include "graph/op.h"

namespace thimble {

inline constexpr size_t kMostPointwise = 256;  // instructions of one node

Result<void> pointwise_gradient(Backward& backward, const Node& node);
Result<void> pointwise_tangent(Tangents& tangents, const Node& node);

}  // namespace thimble
