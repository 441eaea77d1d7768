// LaMDA in training: columns of the second projection freeze one after another, and stay whatever the optimizer has in
// mind for them.
#include <gmock/gmock.h>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

TrainingSpec spec_of(int64_t frozen_by, int64_t steps) {
  TrainingSpec spec = adapted_spec(kLamda, {{"rank", 4}, {"frozen_by", static_cast<double>(frozen_by)}}, {&kAdamw, {}});
  spec.steps = steps;
  return spec;
}

const std::string kB = "model.layers.1.mlp.down_proj.lamda_B";  // [64, 4]

std::vector<float> b_after(const TrainingSpec& spec, const TrainingPlan& plan, int steps) {
  std::vector<float> b(64 * 4);
  run_plan(spec, plan, steps, 1e-2, [&](Values& values) {
    EXPECT_TRUE(values.read(*plan.layout.find(kB), 0, std::as_writable_bytes(std::span(b))));
  });
  return b;
}

// Which of the four columns differ.
std::vector<int> moved(const std::vector<float>& from, const std::vector<float>& to) {
  std::vector<int> columns;
  for (size_t c = 0; c < 4; ++c) {
    bool differs = false;
    for (size_t row = 0; row < 64; ++row) differs |= from[row * 4 + c] != to[row * 4 + c];
    if (differs) columns.push_back(static_cast<int>(c));
  }
  return columns;
}

TEST(Lamda, freezes_one_column_after_another) {
  const TrainingSpec spec = spec_of(3, 0);
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  std::vector<std::vector<float>> b;
  for (int step = 0; step <= 4; ++step) b.push_back(b_after(spec, *plan, step));
  using testing::ElementsAre;
  EXPECT_THAT(moved(b[0], b[1]), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(moved(b[1], b[2]), ElementsAre(1, 2, 3)) << "floor(4 / 3) columns are frozen";
  EXPECT_THAT(moved(b[2], b[3]), ElementsAre(2, 3));
  EXPECT_THAT(moved(b[3], b[4]), ElementsAre());
}

TEST(Lamda, has_frozen_its_projection_after_three_tenths_of_a_run) {
  const TrainingSpec spec = spec_of(0, 4);  // 1.2 steps: the second one moves the last column alone
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const auto one = b_after(spec, *plan, 1), two = b_after(spec, *plan, 2), three = b_after(spec, *plan, 3);
  EXPECT_THAT(moved(one, two), testing::ElementsAre(3));
  EXPECT_THAT(moved(two, three), testing::ElementsAre());
}

TEST(Lamda, trains_the_same_bits_at_the_smallest_budget_and_on_disk) {
  TrainingSpec spec = spec_of(2, 0);
  spec.accumulate = 2;
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 3);
}

}  // namespace
}  // namespace thimble
