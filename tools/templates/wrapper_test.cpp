// What @NAME@ makes of an optimizer's steps, at every budget.
#include "plan/tiny_training.h"

namespace thimble {
namespace {

TrainingSpec wrapped(double shrink) {
  TrainingSpec spec = tiny_spec();
  spec.set_optimizer({&kAdamw, {&@SYMBOL@}});
  EXPECT_TRUE(spec.wrappers.front().options.set("@NAME@", "shrink", shrink));
  return spec;
}

std::vector<float> trained(const TrainingSpec& spec, int steps) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  return plan ? run_plan(spec, *plan, steps).parameters : std::vector<float>{};
}

TEST(@PASCAL@, takes_away_a_part_of_what_the_optimizer_left) {
  const std::vector<float> plain = trained(tiny_spec(), 1), half = trained(wrapped(0.5), 1);
  EXPECT_EQ(trained(wrapped(0), 1), plain);
  ASSERT_EQ(half.size(), plain.size());
  for (size_t i = 0; i < plain.size(); i += 17) ASSERT_NEAR(half[i], 0.5 * plain[i], 1e-6) << i;
}

TEST(@PASCAL@, gives_the_same_bits_at_the_smallest_budget_and_on_disk) {
  expect_same_bits_at_the_smallest_budget_and_on_disk(wrapped(0.1), 3);
}

}  // namespace
}  // namespace thimble
