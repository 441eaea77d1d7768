// The program that forgets tokens of a sequence: in every attention of a model those that stay move to the first
// places.
#pragma once

#include "models/build.h"

namespace thimble {

// Appends it; inputs "<prefix>slot" i32 [1] and "<prefix>kept" i32 [positions] (cache_keep.h). The caches are those of
// build_model() with the same options. Positions that are learned stay in the numbers: such a model is refused.
Result<void> add_eviction(Graph& graph, const Architecture& architecture, const BuildOptions& options);

}  // namespace thimble
