#include "plan/gradients.h"

namespace thimble {

std::vector<KeeperUse> active_keepers(const TrainingSpec& spec) {
  return spec.moves.eight_bit_activations ? std::vector{KeeperUse(kQ8Keeper)} : spec.keepers;
}

Gradients gathered(const Backward& backward, Kept& kept) {
  kept.place();
  return {backward.leaves(), backward.sums_within_pass(), kept.states(), kept.at_step_end(), kept.idle()};
}

Result<Gradients> backpropagated(const TrainingSpec& spec, std::span<const ValueId> derived,
                                 std::span<const ValueId> losses, TrainingGraph& train) {
  const std::vector<KeeperUse> keepers = active_keepers(spec);
  Backward backward(train.graph, derived);
  Kept kept(backward, keepers);
  if (!derived.empty()) CHECK_OK(backward.run(losses));
  return gathered(backward, kept);
}

}  // namespace thimble
