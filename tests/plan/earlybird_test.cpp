// EarlyBIRD in training: alone and behind other techniques, what is left out costs nothing, and budgets change no bit.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

RewriteSpec early(const Architecture& architecture, double blocks, double combination) {
  OptionValues values(kEarlybird.options);
  EXPECT_TRUE(values.set("earlybird", "blocks", blocks) && values.set("earlybird", "combination", combination));
  nlohmann::ordered_json config;
  return *fresh_rewrite(kEarlybird, {values, {}, ""}, architecture, config);
}

TrainingSpec spec_of(const Rewrite& other, double blocks, double combination) {
  TrainingSpec spec = tiny_spec(other);
  spec.rewrites.push_back(early(spec.architecture, blocks, combination));
  return spec;
}

// LoRA on the first half of the blocks: the very graph of a model that has no others. (Fresh weights of a model depend
// on how many blocks it has, so that runs cannot be compared here.)
TEST(Earlybird, half_of_the_blocks_cost_half) {
  const TrainingSpec half = spec_of(kLora, 2, 0), whole = tiny_spec(kLora);
  const auto plan = plan_training(half, Machine{}), all = plan_training(whole, Machine{});
  ASSERT_TRUE(plan && all) << plan.error().message;
  EXPECT_EQ(plan->train.parameters.size(), all->train.parameters.size() / 2);
  EXPECT_EQ(plan->layout.bytes(Role::parameter), all->layout.bytes(Role::parameter) / 2);
  EXPECT_EQ(plan->layout.find("model.layers.2.mlp.up_proj.weight"), nullptr);
  EXPECT_NE(plan->layout.find("model.layers.1.mlp.up_proj.weight"), nullptr);
  EXPECT_LT(plan->seconds, 0.65 * all->seconds);
  TrainingSpec shallow = tiny_spec(kLora);
  shallow.architecture.blocks.resize(2);
  shallow.rewrites = {rewrite_for_tests(kLora, shallow.architecture)};
  const auto expected = plan_training(shallow, Machine{});
  ASSERT_TRUE(expected);
  // What the last block makes stands for what the model's last made, and is called so.
  std::string text = plan->train.graph.text();
  const std::string last = "model.layers.3.", second = "model.layers.1.";
  for (size_t at = text.find(last); at != std::string::npos; at = text.find(last))
    text.replace(at, last.size(), second);
  EXPECT_EQ(text, expected->train.graph.text());
}

TEST(Earlybird, combinations_train_the_same_bits_at_every_budget) {
  for (const double combination : {1.0, 2.0}) {
    SCOPED_TRACE(combination);
    expect_same_bits_at_the_smallest_budget_and_on_disk(spec_of(kLora, 3, combination), 3);
  }
}

// Alone it trains the weights of the sum; with a mixture the balance of the blocks that are left counts.
TEST(Earlybird, goes_alone_and_with_mixtures) {
  TrainingSpec alone = tiny_spec();
  alone.rewrites = {early(alone.architecture, 3, 1)};
  const auto plan = plan_training(alone, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->train.parameters.size(), 3U);
  const Trajectory run = run_plan(alone, *plan, 3);
  EXPECT_NE(run.losses.front(), run.losses.back());
  const TrainingSpec mixture = spec_of(kMixlora, 2, 0);
  const auto mixed = plan_training(mixture, Machine{});
  ASSERT_TRUE(mixed) << mixed.error().message;
  EXPECT_NE(mixed->layout.find("train.balance"), nullptr);
  for (const double loss : run_plan(mixture, *mixed, 2).losses) EXPECT_TRUE(std::isfinite(loss));
}

TEST(Earlybird, is_refused_in_front_of_what_adapts_layers) {
  TrainingSpec spec = spec_of(kLora, 2, 0);
  std::swap(spec.rewrites[0], spec.rewrites[1]);
  EXPECT_THAT(plan_training(spec, Machine{}).error().message, HasSubstr("give earlybird last"));
  EXPECT_THAT(plan_training(spec_of(kLora, 5, 0), Machine{}).error().message, HasSubstr("earlybird.blocks=5"));
}

}  // namespace
}  // namespace thimble
