// Planning is quick: a person waits for it, and a sweep plans dozens of times.
#include <ctime>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kSlower = 10;
#else
constexpr double kSlower = 1;
#endif

// What planning costs depends on the number of values, not on their sizes.
TrainingSpec deep_spec(int64_t layers) {
  TrainingSpec spec = tiny_spec();
  spec.architecture.blocks.resize(static_cast<size_t>(layers), spec.architecture.blocks.front());
  spec.disk = true, spec.disk_least_bytes = 4096;
  return spec;
}

// Of the CPU: what else the machine does is no matter.
double planning_seconds(const TrainingSpec& spec, int64_t budget) {
  TrainingSpec tight = spec;
  tight.budget_bytes = budget;
  const std::clock_t begin = std::clock();
  const auto plan = plan_training(tight, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  return static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
}

// Bounds are many times what it takes on an idle machine (docs/memory.md).
TEST(Planning, of_thirty_layers_is_quick) {
  const TrainingSpec spec = deep_spec(30);
  const auto plenty = plan_training(spec, Machine{});
  ASSERT_TRUE(plenty);
  for (double part : {0.2, 0.5, 0.9})
    EXPECT_LT(planning_seconds(spec, static_cast<int64_t>(part * static_cast<double>(plenty->bytes()))), 5 * kSlower)
        << part;
}

TEST(Planning, of_a_thousand_layers_is_quick) {
  const TrainingSpec spec = deep_spec(1000);
  const auto plenty = plan_training(spec, Machine{});
  ASSERT_TRUE(plenty);
  EXPECT_LT(planning_seconds(spec, plenty->bytes() / 4), 30 * kSlower);
}

}  // namespace
}  // namespace thimble
