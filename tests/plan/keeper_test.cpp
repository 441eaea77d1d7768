// Activations that are kept in another form: fewer bytes, nearly the same losses, the same bits at every budget.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

constexpr double kClose = 0.01;  // nats

TEST(Keeper, is_close_to_exact_and_the_same_at_every_budget) {
  for (const Keeper* keeper : keepers())
    for (const Rewrite* method : {&kFull, &kDora}) {
      SCOPED_TRACE(fmt::format("{} {}", keeper->name, method->name));
      TrainingSpec spec = tiny_spec(*method);
      const auto exact = plan_training(spec, Machine{});
      ASSERT_TRUE(exact);
      spec.keeper = keeper;
      const auto plan = plan_training(spec, Machine{});
      ASSERT_TRUE(plan) << plan.error().message;
      EXPECT_EQ(plan->numerics_hash == exact->numerics_hash, keeper->exact());
      const Trajectory run = run_plan(spec, *plan, 4), expected = run_plan(spec, *exact, 4);
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

// 34 bytes for 32 numbers in place of 64, over everything that waits for the backward pass; the rest are statistics.
TEST(Keeper, eight_bits_take_little_more_than_half_of_bf16) {
  TrainingSpec spec = tiny_spec();
  const auto kept = [&] {
    const auto plan = plan_training(spec, Machine{});
    EXPECT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(plan->shallow, Rung::keep);
    for (const LedgerItem& item : plan->ledger.items)
      if (item.name == "kept activations") return static_cast<double>(item.bytes);
    return 0.0;
  };
  const double exact = kept();
  spec.keeper = &kQ8Keeper;
  EXPECT_LT(kept(), 0.65 * exact);
}

}  // namespace
}  // namespace thimble
