// What becomes of the gradients of a training graph: their norm, clipping, and the update of every parameter.
#pragma once

#include <functional>
#include <span>

#include "plan/gradients.h"
#include "plan/training.h"

namespace thimble {

// Of derived gradients. What consumes or measures one is moved to where it exists; with a barrier only up to the norm.
// before() emits what of no parameter comes before they move.
Result<void> add_updates(const TrainingSpec& spec, const StepKind& kind, Gradients gradients,
                         const std::function<void()>& before, TrainingGraph& train);

// Of gradients that an estimator makes of `estimated` parameters, and of others that are derived beside. Refuses
// optimizers that take gradients in pass by pass.
Result<void> add_estimated_updates(const TrainingSpec& spec, const StepKind& kind, std::span<const ValueId> estimated,
                                   Gradients derived, TrainingGraph& train);

}  // namespace thimble
