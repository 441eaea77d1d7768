// MixPHM in training: one expert a step moves, by chance; budgets change no bit.
#include <gmock/gmock.h>

#include <set>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

const std::string kUp = "model.layers.2.mlp.down_proj.mixphm_up_R.";

// Experts that a step has moved.
std::set<int> moved(const std::map<std::string, std::vector<float>>& from,
                    const std::map<std::string, std::vector<float>>& to) {
  std::set<int> out;
  for (int e = 0; e < 4; ++e)
    if (from.at(kUp + std::to_string(e)) != to.at(kUp + std::to_string(e))) out.insert(e);
  return out;
}

TEST(Mixphm, trains_one_expert_at_a_step) {
  TrainingSpec spec = adapted_spec(kMixphm, {}, {&kSgd, {}});
  spec.clip = 0;
  std::set<int> seen;
  auto before = values_after(spec, 0, 1);
  for (int steps = 1; steps <= 6; ++steps) {
    const auto after = values_after(spec, steps, 1);
    const std::set<int> now = moved(before, after);
    EXPECT_EQ(now.size(), 1U) << "step " << steps;
    seen.insert(now.begin(), now.end());
    before = after;
  }
  EXPECT_GT(seen.size(), 1U);
  spec.set_optimizer({&kAdamw, {}});
  EXPECT_NE(values_after(spec, 3, 1e-2).at("mixphm.A"), before.at("mixphm.A")) << "what all experts share";
}

TEST(Mixphm, begins_next_to_the_model_and_trains_the_same_bits_at_every_budget) {
  TrainingSpec spec = tiny_spec(kMixphm), plain = tiny_spec(kLora);
  spec.activation = plain.activation = &kF32;
  const auto plan = plan_training(spec, Machine{}), with_lora = plan_training(plain, Machine{});
  ASSERT_TRUE(plan && with_lora) << plan.error().message;
  EXPECT_NEAR(run_plan(spec, *plan, 1).losses[0], run_plan(plain, *with_lora, 1).losses[0], 1e-4);
  expect_same_bits_at_the_smallest_budget_and_on_disk(tiny_spec(kMixphm), 3);
}

TEST(Mixphm, loses_what_adapters_repeat_beside_the_loss_that_is_told) {
  TrainingSpec with = adapted_spec(kMixphm, {}, {&kSgd, {}});
  TrainingSpec without = adapted_spec(kMixphm, {{"redundancy", 0}}, {&kSgd, {}});
  const auto some = plan_training(with, Machine{}), none = plan_training(without, Machine{});
  ASSERT_TRUE(some && none) << some.error().message;
  EXPECT_EQ(none->layout.find("train.balance"), nullptr);
  EXPECT_NE(some->layout.find("train.balance"), nullptr);
  const Trajectory pushed = run_plan(with, *some, 1, 1e-2), free = run_plan(without, *none, 1, 1e-2);
  EXPECT_EQ(pushed.losses[0], free.losses[0]);
  EXPECT_NE(pushed.parameters, free.parameters);
}

}  // namespace
}  // namespace thimble
