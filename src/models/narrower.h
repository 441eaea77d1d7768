// A model's blocks at a fraction of their width, for networks that run beside it.
#pragma once

#include "models/architecture.h"

namespace thimble {

// The same blocks with the width of the residual stream, heads and FFNs divided by `by`: as many heads, each narrower,
// and rotations at every `by`-th of the model's frequencies. FFNs are plain where the model's are routed; heads turn by
// halves, whatever the model's file does. Errors where an extent cannot be divided, or heads would have no pairs to
// turn.
Result<Architecture> narrower(const Architecture& architecture, int64_t by);

}  // namespace thimble
