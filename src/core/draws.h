// Draws without replacement.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "core/random.h"

namespace thimble {

// `count` of the numbers below `of`, in the order in which they are drawn (Fisher and Yates). Reads elements
// [first, first + count) of the stream.
inline std::vector<int64_t> draw_places(const Random& random, int64_t of, int64_t count, uint64_t first = 0) {
  std::vector<int64_t> order(static_cast<size_t>(of));
  std::iota(order.begin(), order.end(), int64_t{0});
  for (size_t i = 0; i < static_cast<size_t>(count); ++i)
    std::swap(order[i], order[i + random.below(first + i, static_cast<uint64_t>(of) - i)]);
  order.resize(static_cast<size_t>(count));
  return order;
}

}  // namespace thimble
