// What must hold of every schedule and placement.
#include <gtest/gtest.h>

#include "plan/profile.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

// Plans of both methods, held and early updates, at the smallest, a middle and no budget.
std::vector<TrainingPlan> some_plans() {
  std::vector<TrainingPlan> plans;
  for (const Rewrite* method : methods_for_tests())
    for (double clip : {1.0, 0.0})
      for (double part : {0.0, 0.5, 2.0}) {
        TrainingSpec spec = tiny_spec(*method);
        spec.clip = clip;
        const int64_t least = smallest_budget(spec), most = plan_training(spec, Machine{})->arena_bytes;
        spec.budget_bytes = least + static_cast<int64_t>(part * static_cast<double>(most - least));
        auto plan = plan_training(spec, Machine{});
        EXPECT_TRUE(plan) << plan.error().message;
        if (plan) plans.push_back(std::move(*plan));
      }
  for (double clip : {1.0, 0.0})
    for (double disk : {1e7, 1e9, 1e15})
      for (double factor : {1.0, 1.2}) {
        TrainingSpec spec = tiny_spec(kFull);
        spec.clip = clip, spec.disk = true, spec.disk_least_bytes = 4096;
        spec.budget_bytes = static_cast<int64_t>(factor * static_cast<double>(smallest_budget(spec)));
        auto plan = plan_training(spec, Machine{.disk = {disk, disk}});
        EXPECT_TRUE(plan) << plan.error().message;
        if (plan) plans.push_back(std::move(*plan));
      }
  return plans;
}

// Every operand is alive where it is used; what shares a storage hands over and does not overlap.
void check_residences(const Schedule& s) {
  std::vector<int> free_from(s.storages.size(), 0);
  for (size_t at = 0; at < s.steps.size(); ++at) {
    const Step& step = s.steps[at];
    for (int r : s.operands_of(step)) {
      if (r < 0) continue;
      const Residence& residence = s.residences[static_cast<size_t>(r)];
      ASSERT_LE(residence.begin, static_cast<int>(at));
      ASSERT_GE(residence.end, static_cast<int>(at));
      ASSERT_GE(residence.storage, 0);
      const Storage& storage = s.storages[static_cast<size_t>(residence.storage)];
      ASSERT_TRUE(storage.begin <= residence.begin && residence.end <= storage.end && residence.bytes <= storage.bytes);
    }
  }
  for (const Residence& a : s.residences)
    for (const Residence& b : s.residences)
      ASSERT_FALSE(&a != &b && a.storage >= 0 && a.storage == b.storage && a.begin < b.begin && b.begin < a.end)
          << "a value is overwritten while it is needed";
}

TEST(Schedule, storages_that_live_together_lie_apart) {
  for (const TrainingPlan& plan : some_plans())
    for (const Schedule* s : plan.schedules()) {
      const auto checked = check_placement(*s);
      ASSERT_TRUE(checked) << checked.error().message;
    }
}

// The check finds what is moved to where it must not be.
TEST(Schedule, storages_that_lie_over_one_another_are_found) {
  const auto plan = plan_training(tiny_spec(), Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  Schedule moved = plan->pass;
  ASSERT_TRUE(check_placement(moved));
  const auto large = std::ranges::max_element(moved.storages, {}, &Storage::bytes);
  for (Storage& storage : moved.storages) {
    if (&storage == &*large || storage.begin > large->end || storage.end < large->begin) continue;
    const int64_t before = std::exchange(storage.offset, large->offset);
    EXPECT_FALSE(check_placement(moved));
    storage.offset = before;
  }
  for (const int64_t offset : {int64_t{-64}, int64_t{8}, moved.peak_bytes}) {
    const int64_t before = std::exchange(large->offset, offset);
    EXPECT_FALSE(check_placement(moved)) << offset;
    large->offset = before;
  }
}

TEST(Schedule, residences_cover_their_uses) {
  for (const TrainingPlan& plan : some_plans())
    for (const Schedule* s : plan.schedules()) check_residences(*s);
}

TEST(Schedule, ledger_adds_up) {
  for (const TrainingPlan& plan : some_plans()) {
    int64_t sum = 0;
    for (const LedgerItem& item : plan.ledger.items) sum += item.bytes;
    EXPECT_NEAR(static_cast<double>(sum), static_cast<double>(plan.ledger.planned_bytes), 64);
    EXPECT_EQ(plan.layout.bytes() + plan.transient_bytes, plan.arena_bytes);
  }
}

TEST(Profile, shows_every_byte_that_is_alive) {
  constexpr int64_t kRuntime = 1'000'000;
  for (const TrainingPlan& plan : some_plans()) {
    const auto profile = memory_profile(plan, kRuntime, 1 << 20);
    size_t steps = 0;
    int64_t bound = 0;
    for (const Schedule* s : plan.ordinary_step()) {
      steps += s->steps.size();
      bound = std::max(bound, s->lower_bound);
    }
    ASSERT_EQ(profile.size(), steps);
    int64_t most = 0;
    for (const ProfilePoint& point : profile) most = std::max(most, point.total());
    EXPECT_EQ(most, kRuntime + plan.layout.bytes() + bound);
    const auto thin = memory_profile(plan, kRuntime, 50);
    ASSERT_EQ(thin.size(), 50u);
    int64_t thin_most = 0;
    for (const ProfilePoint& point : thin) thin_most = std::max(thin_most, point.total());
    EXPECT_EQ(thin_most, most) << "thinning lost the peak";
  }
}

}  // namespace
}  // namespace thimble
