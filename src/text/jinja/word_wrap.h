// Python's textwrap.wrap, with whitespace kept as it is.
#pragma once

#include <vector>

#include "text/jinja/text.h"

namespace thimble::jinja {

struct WrapOptions {
  int64_t width = 79;
  bool breaks_long_words = true;
  bool breaks_on_hyphens = true;
};

// Of one line; no line for an empty one.
std::vector<TextPointer> wrap(const Text& line, const WrapOptions& options);

}  // namespace thimble::jinja
