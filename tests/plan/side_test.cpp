// Networks beside the model: what trains is theirs alone, no gradient passes through the model, training begins at the
// model, and the backward pass keeps little.
#include <gmock/gmock.h>

#include <set>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

std::vector<const Rewrite*> beside() {
  std::vector<const Rewrite*> out;
  for (const Rewrite* rewrite : rewrites())
    if (rewrite->join) out.push_back(rewrite);
  return out;
}

class Side : public testing::TestWithParam<const Rewrite*> {};

TEST_P(Side, trains_without_a_backward_pass_through_the_model) {
  const auto train = build_training(tiny_spec(*GetParam()), 512, true);
  ASSERT_TRUE(train) << train.error().message;
  const Graph& graph = train->graph;
  for (const TrainedParameter& parameter : train->parameters) EXPECT_THAT(parameter.name, testing::StartsWith("side."));
  EXPECT_EQ(train->parameters.size(), train->adapter.size());
  for (const Node& node : graph.nodes())
    for (const ValueId id : node.in)
      if (id != kNone && node.phase == Phase::backward && graph.value(id).role == Role::weight)
        EXPECT_EQ(graph.value(id).name, "") << "a weight of the model is read in the backward pass";
}

TEST_P(Side, begins_at_the_model) {
  TrainingSpec spec = tiny_spec(*GetParam()), plain = tiny_spec(kLora);
  spec.activation = plain.activation = &kF32;
  const auto plan = plan_training(spec, Machine{}), with_lora = plan_training(plain, Machine{});
  ASSERT_TRUE(plan && with_lora) << plan.error().message;
  const Trajectory run = run_plan(spec, *plan, 3);
  EXPECT_FLOAT_EQ(static_cast<float>(run.losses[0]),
                  static_cast<float>(run_plan(plain, *with_lora, 1).losses[0]));  // B of LoRA is zero
  EXPECT_LT(run.losses[2], run.losses[0]);
}

// The bytes of SmolLM2-135M's shape, 4 x 512 tokens.
int64_t kept_bytes(const Rewrite& method) {
  TrainingSpec spec = tiny_spec(method);
  spec.architecture = smollm2_shape();
  spec.rewrites = {rewrite_for_tests(method, spec.architecture)};
  spec.batch = 4, spec.context = 512;
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  return plan ? ledger_bytes(*plan, "kept activations") : 0;
}

TEST_P(Side, keeps_at_most_two_fifths_of_what_lora_keeps) {
  const int64_t kept = kept_bytes(*GetParam()), with_lora = kept_bytes(kLora);
  EXPECT_GT(kept, 0);
  EXPECT_LE(static_cast<double>(kept), 0.4 * static_cast<double>(with_lora));
}

TEST_P(Side, stands_alone) {
  TrainingSpec spec = tiny_spec(*GetParam());
  spec.rewrites.push_back(rewrite_for_tests(kLora, spec.architecture));
  const auto refused = plan_training(spec, Machine{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("give it alone"));
}

TEST_P(Side, refuses_what_cannot_be_made_narrower) {
  TrainingSpec spec = tiny_spec(*GetParam());
  for (Block& block : spec.architecture.blocks) block.ffn.width = 100;
  const auto refused = plan_training(spec, Machine{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("give another reduction"));
}

// No network beside the model, but gradients of few of its blocks.
TEST(Sherl, gradients_pass_through_the_last_block_alone) {
  const auto train = build_training(tiny_spec(kSherl), 512, true);
  ASSERT_TRUE(train) << train.error().message;
  for (const TrainedParameter& parameter : train->parameters)
    EXPECT_THAT(parameter.name, testing::StartsWith("sherl."));
  std::set<std::string> read;
  for (const Node& node : train->graph.nodes())
    for (const ValueId id : node.in)
      if (id != kNone && node.phase == Phase::backward && train->graph.value(id).role == Role::weight)
        read.insert(train->graph.value(id).name);
  EXPECT_FALSE(read.empty());
  for (const std::string& name : read)
    EXPECT_TRUE(name.starts_with("model.layers.3.") || !name.starts_with("model.layers.")) << name;
}

TEST(Sherl, begins_at_the_model) {
  TrainingSpec spec = tiny_spec(kSherl), plain = tiny_spec(kLora);
  spec.activation = plain.activation = &kF32;
  const auto plan = plan_training(spec, Machine{}), with_lora = plan_training(plain, Machine{});
  ASSERT_TRUE(plan && with_lora) << plan.error().message;
  const Trajectory run = run_plan(spec, *plan, 3);
  EXPECT_FLOAT_EQ(static_cast<float>(run.losses[0]), static_cast<float>(run_plan(plain, *with_lora, 1).losses[0]));
  EXPECT_NE(run.losses[2], run_plan(spec, *plan, 3, 0).losses[2]) << "nothing was trained";
  expect_same_bits_at_the_smallest_budget_and_on_disk(tiny_spec(kSherl), 3);
}

TEST(Sherl, keeps_at_most_two_fifths_of_what_lora_keeps) {
  const int64_t kept = kept_bytes(kSherl);
  EXPECT_GT(kept, 0);
  EXPECT_LE(static_cast<double>(kept), 0.4 * static_cast<double>(kept_bytes(kLora)));
}

INSTANTIATE_TEST_SUITE_P(Table, Side, testing::ValuesIn(beside()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace thimble
