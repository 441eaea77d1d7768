// What trains: the backward pass and the states of what a selector leaves out are not there, and no bit of what is left
// depends on the budget.
#include "methods/selector.h"

#include <gmock/gmock.h>

#include <cmath>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

void set(TrainingSpec& spec, std::string_view option, std::string_view value) {
  const auto done = spec.selector_options.set(spec.selector->name, option, value);
  ASSERT_TRUE(done) << done.error().message;
}

TrainingSpec selecting(const Selector& selector, const Rewrite& method = kFull) {
  TrainingSpec spec = tiny_spec(method);
  spec.selector = &selector, spec.selector_options = OptionValues(selector.options);
  return spec;
}

std::set<std::string> trained(const TrainingPlan& plan) {
  std::set<std::string> out;
  for (const TrainedParameter& parameter : plan.train.parameters) out.insert(parameter.name);
  return out;
}

// Bytes of masters, gradients and states, as they are declared.
int64_t declared(const TrainingPlan& plan) {
  int64_t bytes = 0;
  for (const TrainedParameter& parameter : plan.train.parameters) {
    bytes += 2 * Type{parameter.shape}.bytes();
    for (const auto& [name, state] : parameter.states) bytes += Type{state.shape, state.codec}.bytes();
  }
  return bytes;
}

// The same losses and numbers at the least budget, half-way, and with a disk.
void expect_same_at_every_budget(TrainingSpec spec) {
  const auto plenty = plan_training(spec, Machine{});
  ASSERT_TRUE(plenty) << plenty.error().message;
  const Trajectory expected = run_plan(spec, *plenty, 3);
  ASSERT_NE(expected.losses[0], expected.losses[2]) << "nothing was trained";
  for (const double loss : expected.losses) ASSERT_TRUE(std::isfinite(loss));
  for (const bool disk : {false, true}) {
    spec.disk = disk, spec.disk_least_bytes = 4096;
    const int64_t least = smallest_budget(spec);
    for (const int64_t budget : {least, (least + plenty->arena_bytes) / 2}) {
      spec.budget_bytes = budget;
      const auto plan = plan_training(spec, Machine{.disk = {1e9, 1e9}});
      ASSERT_TRUE(plan) << plan.error().message;
      EXPECT_EQ(plan->numerics_hash, plenty->numerics_hash);
      EXPECT_EQ(run_plan(spec, *plan, 3), expected) << "disk " << disk << " budget " << budget;
    }
  }
}

TEST(Selector, last_layers_trains_those_and_stores_the_rest_as_their_file_does) {
  TrainingSpec spec = selecting(kLastLayers);
  spec.stored = [](const std::string& name) -> const Codec* {
    if (name == "lm_head.weight") return nullptr;
    return name.find("norm") == std::string::npos ? &kQ8_0 : &kF32;
  };
  set(spec, "layers", "1");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  for (const std::string& name : trained(*plan))
    EXPECT_TRUE(name.starts_with("model.layers.3.") || name == "model.norm.weight") << name;
  EXPECT_EQ(plan->train.parameters.size(), 10U);
  EXPECT_EQ(plan->layout.find("model.layers.2.mlp.up_proj.weight")->type.codec, &kQ8_0);
  EXPECT_EQ(plan->layout.find("model.layers.2.mlp.up_proj.weight")->role, Role::weight);
  EXPECT_EQ(plan->layout.find("model.layers.3.mlp.up_proj.weight")->type.codec, &kF32);
  const Layout& layout = plan->layout;
  EXPECT_EQ(layout.bytes(Role::parameter) + layout.bytes(Role::gradient) + layout.bytes(Role::state), declared(*plan));
  // Nothing of the backward pass is of a frozen layer.
  for (const Node& node : plan->train.graph.nodes())
    if (node.phase == Phase::backward) EXPECT_TRUE(node.block == 3 || node.block < 0) << node.op->name << node.block;
}

TEST(Selector, a_frozen_layer_costs_neither_memory_nor_time) {
  TrainingSpec spec = selecting(kLastLayers);
  int64_t bytes = 0;
  double seconds = 0;
  for (const char* layers : {"1", "2", "4"}) {
    set(spec, "layers", layers);
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan);
    EXPECT_GT(plan->arena_bytes, bytes);
    EXPECT_GT(plan->seconds, seconds);
    bytes = plan->arena_bytes, seconds = plan->seconds;
  }
}

TEST(Selector, patterns_choose_by_name) {
  TrainingSpec spec = selecting(kPatterns);
  set(spec, "train", "q_proj|norm");
  set(spec, "freeze", "layers.0");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const auto names = trained(*plan);
  EXPECT_EQ(names.size(), 3U * 3 + 1);
  EXPECT_TRUE(names.contains("model.layers.1.self_attn.q_proj.weight"));
  EXPECT_FALSE(names.contains("model.layers.0.input_layernorm.weight"));
}

TEST(Selector, choices_that_make_no_sense_are_refused) {
  const auto refusal = [](const Selector& selector, std::string_view option, std::string_view value) {
    TrainingSpec spec = selecting(selector);
    if (!option.empty()) set(spec, option, value);
    const auto refused = plan_training(spec, Machine{});
    EXPECT_FALSE(refused);
    return refused ? "" : refused.error().message;
  };
  EXPECT_THAT(refusal(kPatterns, "", ""), HasSubstr("patterns.train="));
  EXPECT_THAT(refusal(kPatterns, "train", "q_porj"), AllOf(HasSubstr("'q_porj'"), HasSubstr("q_proj")));
  EXPECT_THAT(refusal(kPatterns, "freeze", "model"), HasSubstr("none trains"));
  EXPECT_THAT(refusal(kLastLayers, "layers", "5"), HasSubstr("the model has 4 layers"));
}

TEST(Selector, every_static_one_gives_the_same_bits_at_every_budget) {
  for (const Rewrite* method : {&kFull, &kLora}) {
    SCOPED_TRACE(method->name);
    expect_same_at_every_budget(selecting(kLastLayers, *method));
    TrainingSpec spec = selecting(kPatterns, *method);
    set(spec, "train", "q_proj|down_proj");
    spec.clip = 0;
    expect_same_at_every_budget(spec);
  }
}

// What trains moves as it does where all train, as long as the step is of one parameter alone: the gradient is the same.
TEST(Selector, the_gradient_is_that_of_the_whole_model) {
  TrainingSpec whole = tiny_spec();
  whole.clip = 0;
  TrainingSpec part = selecting(kLastLayers);
  part.clip = 0;
  set(part, "layers", "1");
  const auto all = plan_training(whole, Machine{}), some = plan_training(part, Machine{});
  ASSERT_TRUE(all && some);
  const Trajectory expected = run_plan(whole, *all, 1), found = run_plan(part, *some, 1);
  EXPECT_EQ(expected.losses, found.losses);
  size_t at = 0, compared = 0;
  const auto names = trained(*some);
  for (const TrainedParameter& parameter : by_name(*all)) {
    const auto count = static_cast<size_t>(parameter.shape.count());
    if (names.contains(parameter.name)) {
      const std::span mine(found.parameters.data() + compared, count), theirs(expected.parameters.data() + at, count);
      EXPECT_TRUE(std::ranges::equal(mine, theirs)) << parameter.name;
      compared += count;
    }
    at += count;
  }
  EXPECT_EQ(compared, found.parameters.size());
}

TEST(Selector, works_with_an_estimator) {
  TrainingSpec spec = selecting(kLastLayers);
  spec.estimator = &kMezo, spec.estimator_options = OptionValues(kMezo.options), spec.clip = 0;
  expect_same_at_every_budget(spec);
}

}  // namespace
}  // namespace thimble
