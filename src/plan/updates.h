// What becomes of the gradients of a training graph: their norm, clipping, and the update of every parameter.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "methods/keeper.h"
#include "ops/backward.h"
#include "plan/training.h"

namespace thimble {

// What keeps activations: what the spec asks for, or what the planner has taken by itself as a near move.
std::vector<KeeperUse> keepers_of(const TrainingSpec& spec);

// What a backward pass has left.
struct Gradients {
  std::vector<Backward::LeafGradient> leaves;
  bool sums_within_pass = false;  // Backward::sums_within_pass()
  std::vector<std::string> keeper_states;
  std::vector<StepEnd> at_step_end;            // of the keepers
  std::vector<std::string_view> idle_keepers;  // that kept nothing
};
// Of one that is complete: its graph is put in order.
Gradients gathered(const Backward& backward, Kept& kept);

// Of derived gradients. What consumes or measures one is moved to where it exists; with a barrier only up to the norm.
// before() emits what of no parameter comes before they move.
Result<void> add_updates(const TrainingSpec& spec, const StepKind& kind, Gradients gradients,
                         const std::function<void()>& before, TrainingGraph& train);

// Of gradients that an estimator makes of `estimated` parameters, and of others that are derived beside. Refuses
// optimizers that take gradients in pass by pass.
Result<void> add_estimated_updates(const TrainingSpec& spec, const StepKind& kind, std::span<const ValueId> estimated,
                                   Gradients derived, TrainingGraph& train);

}  // namespace thimble
