// ALiBi: biases of attention that grow with the distance of tokens.
#pragma once

#include "graph/graph.h"
#include "models/architecture.h"

namespace thimble {

// [heads, positions]: slope times position. Falcon rounds both and their product to bf16, and scales it with the
// scores.
Initial alibi_table(const Attention& attention, int64_t positions, float scale);

}  // namespace thimble
