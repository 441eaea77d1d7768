// The backward pass of a training graph, as its keepers have it, and what it leaves.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "methods/keeper.h"
#include "ops/backward.h"
#include "plan/training.h"

namespace thimble {

struct Gradients {
  std::vector<Backward::LeafGradient> leaves;
  bool sums_within_pass = false;  // Backward::sums_within_pass()
  std::vector<std::string> keeper_states;
  std::vector<StepEnd> at_step_end;            // of the keepers and of techniques, when all that trains has moved
  std::vector<std::string_view> idle_keepers;  // that kept nothing
};

// What keeps activations: what the spec asks for, or what the planner has taken by itself as a near move.
std::vector<KeeperUse> active_keepers(const TrainingSpec& spec);

// What a backward pass has left that is complete: its graph is put in order.
Gradients gathered(const Backward& backward, Kept& kept);

// Of one backward pass behind the model; nothing where nothing is derived.
Result<Gradients> backpropagated(const TrainingSpec& spec, std::span<const ValueId> derived,
                                 std::span<const ValueId> losses, TrainingGraph& train);

}  // namespace thimble
