// A stretch of a text: bytes, or code points, [begin, end).
#pragma once

#include <cstddef>

namespace thimble {

struct TextSpan {
  size_t begin = 0, end = 0;
  bool operator==(const TextSpan&) const = default;
};

}  // namespace thimble
