// Schedules of the learning rate against the formulas of transformers' optimization.py, and their bounds.
#include "run/rate_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace thimble {
namespace {

double factor(const char* name, const RateSettings& settings, int64_t step, int64_t steps = 100) {
  return rate_factor(**rate_schedule_named(name), settings, step, steps);
}

TEST(RateSchedule, all_warm_up_in_a_line_and_begin_at_the_peak) {
  for (const RateSchedule& schedule : rate_schedules()) {
    SCOPED_TRACE(schedule.name);
    if (schedule.rises) continue;
    const RateSettings settings{.warmup = 10, .decay = 0.2, .floor = 0.1};
    for (int64_t step = 0; step < 10; ++step)
      EXPECT_DOUBLE_EQ(rate_factor(schedule, settings, step, 100), static_cast<double>(step + 1) / 10);
    EXPECT_DOUBLE_EQ(rate_factor(schedule, settings, 10, 100), 1);
    double before = 1;
    for (int64_t step = 10; step < 130; ++step) {  // past the end too, where a run is resumed with fewer steps
      const double now = rate_factor(schedule, settings, step, 100);
      EXPECT_LE(now, before) << step;
      EXPECT_GE(now, schedule.falls_to_floor ? 0.1 : 0.0) << step;
      before = now;
    }
    if (schedule.falls_to_floor) {
      EXPECT_DOUBLE_EQ(rate_factor(schedule, settings, 100, 100), 0.1);
    }
  }
}

TEST(RateSchedule, follow_their_formulas) {
  EXPECT_DOUBLE_EQ(factor("linear", {.warmup = 20}, 60), 0.5);
  EXPECT_DOUBLE_EQ(factor("linear", {.warmup = 20, .floor = 0.2}, 60), 0.6);
  EXPECT_DOUBLE_EQ(factor("cosine", {.warmup = 0.2}, 40), 0.5 * (1 + std::cos(std::numbers::pi * 0.25)));
  EXPECT_DOUBLE_EQ(factor("cosine", {.floor = 0.1}, 25), 0.1 + 0.9 * 0.5 * (1 + std::cos(std::numbers::pi * 0.25)));
  EXPECT_DOUBLE_EQ(factor("inverse_sqrt", {.warmup = 16}, 64), std::sqrt(16.0 / 64));
  EXPECT_DOUBLE_EQ(factor("inverse_sqrt", {}, 30'000, 1'000'000), 0.5);
  EXPECT_DOUBLE_EQ(factor("warmup_stable_decay", {.warmup = 10, .decay = 20}, 80), 1);
  EXPECT_DOUBLE_EQ(factor("warmup_stable_decay", {.warmup = 10, .decay = 0.2}, 90), 0.5);
  EXPECT_DOUBLE_EQ(factor("warmup_stable_decay", {.warmup = 10, .decay = 20, .floor = 0.5}, 90), 0.75);
}

TEST(RateSchedule, are_found_by_name) {
  for (const RateSchedule& schedule : rate_schedules()) EXPECT_EQ(*rate_schedule_named(schedule.name), &schedule);
  const auto wrong = rate_schedule_named("cosin");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("cosine"), std::string::npos);
}

}  // namespace
}  // namespace thimble
