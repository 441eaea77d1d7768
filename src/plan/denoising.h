// Blocks that learn alone to find a label's embedding behind noise (Architecture::denoises): every block reads a noisy
// embedding of the right label in place of what the block before it would have found.
#pragma once

#include "graph/rewrite.h"
#include "models/build.h"
#include "plan/training.h"

namespace thimble {

// The model of `graph` with such blocks. `loss`: the name of that of the class that is predicted.
GraphCopy cut_by_denoising(const TrainingSpec& spec, const Graph& graph, const BuiltModel& model,
                           const std::string& loss);

}  // namespace thimble
