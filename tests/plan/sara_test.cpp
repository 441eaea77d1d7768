// SaRA in training: what has grown out of the smallest in the middle of the run stays from there on, and the rest
// moves.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

constexpr int kAdjust = 2;

TrainingSpec spec_of(const OptimizerStack& optimizer) {
  return adapted_spec(kSara, {{"ratio", 0.05}, {"adjust_at", kAdjust}}, optimizer);
}

const std::string kP = "model.layers.1.mlp.down_proj.sara_P";  // [64, 6], all of them 1 in these tests

std::vector<float> p_after(const TrainingSpec& spec, const TrainingPlan& plan, int steps) {
  std::vector<float> p(64 * 6);
  run_plan(spec, plan, steps, 1e-2, [&](Values& values) {
    EXPECT_TRUE(values.read(*plan.layout.find(kP), 0, std::as_writable_bytes(std::span(p))));
  });
  return p;
}

TEST(Sara, freezes_what_has_grown_out_of_the_smallest) {
  const TrainingSpec spec = spec_of({&kAdamw, {}});
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const std::vector<float> begun = p_after(spec, *plan, 0), adjusted = p_after(spec, *plan, kAdjust),
                           last = p_after(spec, *plan, kAdjust + 2);
  int frozen = 0, moving = 0;
  for (size_t i = 0; i < begun.size(); ++i) {
    ASSERT_EQ(begun[i], 1);
    ASSERT_NE(adjusted[i], 1) << i;
    const bool grown = std::abs(adjusted[i]) >= 1;
    (grown ? frozen : moving) += 1;
    EXPECT_EQ(last[i] == adjusted[i], grown) << i << ": " << adjusted[i] << ", " << last[i];
  }
  EXPECT_GT(frozen, 0);
  EXPECT_GT(moving, 0);
}

TEST(Sara, trains_the_same_bits_at_the_smallest_budget_and_on_disk) {
  TrainingSpec spec = spec_of({&kAdamw, {}});
  spec.accumulate = 2;
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 4);
}

}  // namespace
}  // namespace thimble
