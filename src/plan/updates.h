// What becomes of the gradients of a training graph: their norm, clipping, and the update of every parameter.
#pragma once

#include <functional>
#include <vector>

#include "ops/backward.h"
#include "plan/training.h"

namespace thimble {

// Of derived gradients. What consumes or measures one is moved to where it exists; with a barrier only up to the norm.
// begin() emits what of no parameter comes before they move, end() what ends a step.
struct StepEnds {
  std::function<void()> begin, end;
};
void add_updates(const TrainingSpec& spec, const StepKind& kind, const std::vector<Backward::LeafGradient>& gradients,
                 const StepEnds& ends, TrainingGraph& train);

// Of gradients that an estimator makes of `estimated` parameters, and of others that are derived beside. Refuses
// optimizers that take gradients in pass by pass.
Result<void> add_estimated_updates(const TrainingSpec& spec, const StepKind& kind, std::span<const ValueId> estimated,
                                   std::span<const Backward::LeafGradient> derived, TrainingGraph& train);

}  // namespace thimble
