// What a learning-rate range test reads of its losses, and the law behind --lr auto.
#include "run/lr_range.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "models/memory_model.h"
#include "run/auto_rate.h"
#include "run/rate_schedule.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

// Losses that fall about 1e-3, are lowest about 1e-2 and rise from there.
std::vector<RatePoint> curve(size_t count) {
  std::vector<RatePoint> points;
  for (size_t i = 0; i < count; ++i) {
    const double x = -6 + 6 * static_cast<double>(i) / static_cast<double>(count - 1);  // of 10
    points.push_back({std::pow(10, x), 3 - 2 / (1 + std::exp(-6 * (x + 3))) + std::exp(3 * (x + 1))});
  }
  return points;
}

TEST(LrRange, finds_where_losses_fall_and_are_lowest) {
  const RateRange range = read_rate_range(curve(600));
  ASSERT_TRUE(range.steepest && range.lowest);
  EXPECT_NEAR(std::log10(*range.steepest), -3, 0.2);
  EXPECT_NEAR(std::log10(*range.lowest), -3, 0.5);  // a tenth of about 1e-2
  const RateRange rising = read_rate_range({{1e-3, 1}, {1e-2, 2}, {1e-1, 3}});
  EXPECT_FALSE(rising.steepest || rising.lowest);
  EXPECT_FALSE(read_rate_range({}).lowest);
}

TEST(LrRange, is_over_where_losses_explode) {
  std::vector<RatePoint> points = curve(60);
  EXPECT_FALSE(range_is_over({}));
  EXPECT_FALSE(range_is_over({points.begin(), points.begin() + 40}));
  for (int i = 0; i < 5; ++i) points.push_back({2, 200});
  EXPECT_TRUE(range_is_over(points));
  EXPECT_TRUE(range_is_over({{1, NAN}}));
}

TEST(LrRange, rates_rise_by_one_factor) {
  const RateSchedule& schedule = **rate_schedule_named("rising");
  constexpr int64_t kSteps = 7;
  for (int64_t i = 0; i < kSteps; ++i)
    EXPECT_NEAR(rate_factor(schedule, {.floor = 1e-6}, i, kSteps), std::pow(10, static_cast<double>(i) - 6),
                1e-9 * std::pow(10, static_cast<double>(i) - 6));
  Recipe recipe;
  ASSERT_TRUE(set_rate_range("1e-5:0.1", recipe));
  EXPECT_EQ(recipe.steps, 100);
  EXPECT_NEAR(recipe.lr * recipe.min_lr, 1e-5, 1e-12);
  for (const char* wrong : {"1", "1:1", "1e-3:1e-5", ":1", "1e-5:", "a:b", "-1:1", "1e-5:1e9"})
    EXPECT_FALSE(set_rate_range(wrong, recipe)) << wrong;
}

TEST(LrRange, draws_its_curve) {
  TemporaryFolder folder;
  ASSERT_TRUE(write_rate_range(folder.file("r.html"), read_rate_range(curve(60)), "a <model>"));
  const std::string page = file_bytes(folder.file("r.html"));
  EXPECT_THAT(page, HasSubstr("a &lt;model&gt;"));
  EXPECT_THAT(page, HasSubstr("<polyline"));
  EXPECT_THAT(page, HasSubstr("1e-05"));
  ASSERT_TRUE(write_rate_range(folder.file("none.html"), read_rate_range({}), "none"));
}

TEST(AutoRate, is_step_law) {
  const Architecture a = tiny_architecture("llama");
  double parameters = 0;
  for (const TensorSpec& tensor : tensor_specs(a))
    if (tensor.name.find("embed") == std::string::npos && !tensor.name.starts_with("lm_head"))
      parameters += static_cast<double>(tensor.shape.count());
  const AutoRate found = step_law(a, 1'000'000'000, 4096);
  EXPECT_NEAR(found.rate, 1.79 * std::pow(parameters, -0.713) * std::pow(1e9, 0.307), 1e-9);
  EXPECT_THAT(found.source, HasSubstr("arXiv:2503.04715"));
  EXPECT_TRUE(check_auto_rate(kAdamw, true));
  EXPECT_FALSE(check_auto_rate(kAdamw, false));
  EXPECT_FALSE(check_auto_rate(kLion, true));
}

}  // namespace
}  // namespace thimble
