// Mixtures of LoRAs in training: the loss that keeps experts evenly used, and the same bits at every budget.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "models/router.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

TrainingSpec spec_of(const Rewrite& method, double balance) {
  TrainingSpec spec = tiny_spec(method);
  OptionValues values(method.options);
  EXPECT_TRUE(values.set("test", "balance", balance));
  EXPECT_TRUE(values.set("test", "rank", 2));
  nlohmann::ordered_json config;
  spec.rewrites = {*fresh_rewrite(method, {values, {}, ""}, spec.architecture, config)};
  return spec;
}

TEST(Mixtures, lose_what_experts_are_unevenly_used) {
  for (const Rewrite* method : {&kMixlora, &kMola, &kMole}) {
    SCOPED_TRACE(method->name);
    const TrainingSpec without = spec_of(*method, 0), with = spec_of(*method, 0.5);
    const auto none = plan_training(without, Machine{}), some = plan_training(with, Machine{});
    ASSERT_TRUE(none && some) << some.error().message;
    EXPECT_EQ(none->layout.find("train.balance"), nullptr);
    const Layout::Entry* const losses = some->layout.find("train.balance");
    ASSERT_NE(losses, nullptr);
    std::vector<float> rows(static_cast<size_t>(losses->type.shape.count()));
    const Trajectory pushed = run_plan(with, *some, 2, 1e-2, [&](Values& values) {
      EXPECT_TRUE(values.read(*losses, 0, std::as_writable_bytes(std::span(rows))));
    });
    double sum = 0;
    for (const float row : rows) sum += row;
    // Where all experts are used alike a token loses balance * chosen in every layer; no router can have less.
    const double layers = method == &kMola ? 28 : 4, chosen = method == &kMole ? 1 : 2;
    EXPECT_GT(sum, 0.5 * chosen * layers * 0.99 * static_cast<double>(rows.size()) / 1024);
    EXPECT_LT(sum, 0.5 * chosen * layers * 2.0 * static_cast<double>(rows.size()) / 1024);
    const Trajectory free = run_plan(without, *none, 2, 1e-2);
    EXPECT_EQ(pushed.losses[0], free.losses[0]) << "it is beside the loss that is told";
    EXPECT_NE(pushed.parameters, free.parameters) << "and moves the routers";
  }
}

// Without an FFN that experts could be made of there would be none, and without layers that meft is for no adapter.
TEST(Mixtures, are_refused_where_there_is_no_plain_ffn) {
  for (const Rewrite* method : {&kMixlora, &kMole, &kMeft}) {
    TrainingSpec spec = tiny_spec();
    for (Block& block : spec.architecture.blocks) block.ffn.routing = {&kTopKRouter, 3, 2, 0, 0.01};
    spec.rewrites = {rewrite_for_tests(*method, spec.architecture)};
    const auto plan = plan_training(spec, Machine{});
    ASSERT_FALSE(plan) << method->name;
    EXPECT_EQ(plan.error().code, ErrorCode::unsupported);
  }
}

TEST(Mixtures, train_the_same_bits_at_the_smallest_budget) {
  TrainingSpec spec = spec_of(kMixlora, 0.01);
  const auto plenty = plan_training(spec, Machine{});
  ASSERT_TRUE(plenty) << plenty.error().message;
  const Trajectory expected = run_plan(spec, *plenty, 2);
  spec.budget_bytes = smallest_budget(spec);
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_LT(plan->arena_bytes, plenty->arena_bytes);
  EXPECT_EQ(run_plan(spec, *plan, 2), expected);
}

}  // namespace
}  // namespace thimble
