// Time a step against the budget.
#include "report/sweep.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <set>

#include "files/json.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

class SweepTest : public testing::Test {
 protected:
  void SetUp() override {
    TrainingSpec spec = tiny_spec();
    spec.disk = true, spec.disk_least_bytes = 4096;
    auto points = sweep_budgets(spec, Machine{}, 8);
    ASSERT_TRUE(points) << points.error().message;
    points_ = std::move(*points);
    spec.budget_bytes = points_.back().budget_bytes - 1'000'000;
    below_ = plan_training(spec, Machine{}).has_value();
  }
  std::vector<SweepPoint> points_;
  bool below_ = true;  // there is a plan for a megabyte less than the last point
};

TEST_F(SweepTest, goes_from_plenty_down_to_the_smallest_budget) {
  ASSERT_GE(points_.size(), 3u);
  EXPECT_TRUE(points_.front().techniques.empty() || points_.front().read_bytes == 0);
  EXPECT_FALSE(below_);
  std::set<std::string> fresh;
  for (size_t i = 0; i < points_.size(); ++i) {
    EXPECT_LE(points_[i].planned_bytes, points_[i].budget_bytes);
    if (i) {
      EXPECT_LT(points_[i].budget_bytes, points_[i - 1].budget_bytes);
    }
    for (const std::string& technique : points_[i].fresh) EXPECT_TRUE(fresh.insert(technique).second) << technique;
  }
  EXPECT_TRUE(fresh.contains("states on disk"));
}

TEST_F(SweepTest, is_told_as_table_json_and_picture) {
  const std::string table = sweep_table(points_), json = sweep_json(points_), svg = sweep_svg(points_, "a < b");
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), std::ssize(points_) + 1);
  std::istringstream lines(json);
  size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const auto point = nlohmann::json::parse(line);
    EXPECT_EQ(point["budget_bytes"], points_[count].budget_bytes);
    EXPECT_EQ(point["techniques"].size(), points_[count].techniques.size());
  }
  EXPECT_EQ(count, points_.size());
  EXPECT_THAT(svg, testing::StartsWith("<svg "));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
  EXPECT_THAT(svg, testing::HasSubstr("a &lt; b"));
  EXPECT_THAT(svg, testing::HasSubstr("states on disk"));
}

}  // namespace
}  // namespace thimble
