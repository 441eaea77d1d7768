// Activations that are kept in another form: fewer bytes, nearly the same losses, the same bits at every budget.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

constexpr double kClose = 0.01;  // nats

TrainingSpec kept_by(TrainingSpec spec, const Keeper& keeper) {
  spec.keepers.clear();
  if (!keeper.exact()) spec.keepers.emplace_back(keeper);
  return spec;
}

TEST(Keeper, is_close_to_exact_and_the_same_at_every_budget) {
  for (const Rewrite* method : {&kFull, &kDora}) {
    const auto exact = plan_training(tiny_spec(*method), Machine{});
    ASSERT_TRUE(exact);
    const Trajectory expected = run_plan(tiny_spec(*method), *exact, 4);
    for (const Keeper* keeper : keepers()) {
      SCOPED_TRACE(fmt::format("{} {}", keeper->name, method->name));
      TrainingSpec spec = kept_by(tiny_spec(*method), *keeper);
      const auto plan = plan_training(spec, Machine{});
      ASSERT_TRUE(plan) << plan.error().message;
      EXPECT_EQ(plan->numerics_hash == exact->numerics_hash, keeper->exact());
      const Trajectory run = run_plan(spec, *plan, 4);
      EXPECT_EQ(run.losses[0], expected.losses[0]) << "the forward pass is exact";
      for (size_t i = 0; i < run.losses.size(); ++i) EXPECT_NEAR(run.losses[i], expected.losses[i], kClose);
      EXPECT_EQ(run == expected, keeper->exact());
      spec.disk = true, spec.disk_least_bytes = 4096;
      const int64_t least = smallest_budget(spec);
      for (const int64_t budget : {least, (least + plan->arena_bytes) / 2}) {
        spec.budget_bytes = budget;
        const auto tight = plan_training(spec, Machine{});
        ASSERT_TRUE(tight) << tight.error().message;
        EXPECT_EQ(run_plan(spec, *tight, 4), run) << "budget " << budget;
      }
    }
  }
}

// Without a barrier updates run in the backward pass, where a state is read to recompute; with several micro-batches
// what a step sees is of all of them.
TEST(Keeper, has_states_that_move_once_a_step) {
  TrainingSpec spec = kept_by(tiny_spec(), kMesa);
  spec.clip = 0;
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_FALSE(plan->train.keeper_states.empty());
  const Trajectory run = run_plan(spec, *plan, 3);
  TrainingSpec clipped = spec;
  clipped.clip = 1e9;  // a barrier that scales by 1
  const auto barrier = plan_training(clipped, Machine{});
  ASSERT_TRUE(barrier) << barrier.error().message;
  EXPECT_EQ(run_plan(clipped, *barrier, 3), run);
  spec.budget_bytes = smallest_budget(spec);
  const auto tight = plan_training(spec, Machine{});
  ASSERT_TRUE(tight) << tight.error().message;
  EXPECT_EQ(run_plan(spec, *tight, 3), run);
}

double kept_bytes(const TrainingSpec& spec) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->shallow, Rung::keep);
  for (const LedgerItem& item : plan->ledger.items)
    if (item.name == "kept activations") return static_cast<double>(item.bytes);
  return 0;
}

// 34 bytes for 32 numbers in place of 64, over everything that waits for the backward pass; the rest are statistics.
TEST(Keeper, eight_bits_take_little_more_than_half_of_bf16) {
  const TrainingSpec spec = tiny_spec();
  const double exact = kept_bytes(spec);
  EXPECT_LT(kept_bytes(kept_by(spec, kQ8Keeper)), 0.65 * exact);
  EXPECT_LT(kept_bytes(kept_by(spec, kMesa)), 0.60 * exact);
}

TEST(Keeper, the_states_have_a_line_of_the_ledger) {
  const auto plan = plan_training(kept_by(tiny_spec(), kMesa), Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  int64_t expected = 0;
  for (const std::string& name : plan->train.keeper_states)
    expected += (plan->layout.find(name)->type.bytes() + 63) / 64 * 64;
  const auto item = std::ranges::find(plan->ledger.items, std::string_view("keeper states"), &LedgerItem::name);
  ASSERT_NE(item, plan->ledger.items.end());
  EXPECT_EQ(item->bytes, expected);
}

TEST(Keeper, names_stack_and_wrong_ones_are_refused) {
  const auto two = keepers_named("mesa,q8_0");
  ASSERT_TRUE(two);
  EXPECT_EQ(two->size(), 2u);
  EXPECT_EQ((*two)[0].keeper, &kMesa);
  EXPECT_TRUE(keepers_named("exact")->empty());
  for (const auto& [names, word] :
       {std::pair{"mesa,mesa", "twice"}, {"exact,mesa", "exact"}, {"", "''"}, {"mes", "mesa"}}) {
    const auto refused = keepers_named(names);
    ASSERT_FALSE(refused) << names;
    EXPECT_THAT(refused.error().message, testing::HasSubstr(word));
  }
}

}  // namespace
}  // namespace thimble
