// Values of a technique that begin with what is computed from the model's weights (Rewrite::begin), where no file has
// filled them.
#pragma once

#include "models/model_source.h"
#include "run/weights.h"

namespace thimble {

// Works in memory that `values` has to spare; over_budget where a row of a weight does not fit that.
Result<void> begin_from_weights(std::span<const RewriteSpec> stack, std::span<const AdapterTensor> tensors,
                                const ModelSource& source, Threads& threads, Values& values, const Loaded& loaded);

}  // namespace thimble
