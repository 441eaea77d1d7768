// The promise: a smaller budget changes where and when, never what.
#include <gmock/gmock.h>

#include <cmath>

#include "codecs/pattern.h"
#include "plan/candidates.h"
#include "plan/tiny_training.h"
#include "whole.h"

namespace thimble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Budget, does_not_change_a_bit) {
  for (const Rewrite* method : methods_for_tests())
    for (double clip : {1.0, 0.0}) {
      SCOPED_TRACE(fmt::format("{} clip {}", method->name, clip));
      const bool every = method == &kFull || method == &kLora || whole_tests();
      if (!every && clip > 0) continue;  // updates at once are the harder case
      TrainingSpec spec = tiny_spec(*method);
      spec.clip = clip;
      const auto free_plan = plan_training(spec, Machine{});
      ASSERT_TRUE(free_plan) << free_plan.error().message;
      const int steps = every ? 3 : 2;
      const Trajectory expected = run_plan(spec, *free_plan, steps);
      for (double loss : expected.losses) ASSERT_TRUE(std::isfinite(loss));
      ASSERT_NE(expected.losses.front(), expected.losses.back()) << "nothing was trained";
      EXPECT_EQ(free_plan->keep_logits, method->trains_weights);
      const int64_t least = smallest_budget(spec), most = free_plan->arena_bytes;
      ASSERT_LT(least, most);
      for (int64_t budget : {least, (least + most) / 2, most - 1}) {
        if (!every && budget == most - 1) continue;
        spec.budget_bytes = budget;
        const auto plan = plan_training(spec, Machine{});
        ASSERT_TRUE(plan) << plan.error().message;
        EXPECT_LE(plan->arena_bytes, budget);
        EXPECT_EQ(plan->numerics_hash, free_plan->numerics_hash);
        EXPECT_TRUE(plan->choice.blocks.deep_blocks > 0 || plan->rows < free_plan->rows ||
                    plan->keep_logits < free_plan->keep_logits)
            << "the budget forces nothing";
        EXPECT_EQ(run_plan(spec, *plan, steps), expected) << "budget " << budget << " of " << most << ", rows "
                                                          << plan->rows << ", deep " << plan->choice.blocks.deep_blocks;
      }
    }
}

// Frozen weights with a pattern wait on disk as they lie in memory.
TEST(Budget, packed_weights_do_not_change_a_bit) {
  TrainingSpec spec = tiny_spec(kLora);
  spec.stored = [](const std::string& name) -> const Codec* {
    if (name == "lm_head.weight") return nullptr;
    return name.ends_with("_proj.weight") ? &kBf16In24 : &kF32;
  };
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 3);
}

// Disks from one that costs nothing to one that everything waits for: all of them move values, and no bit changes.
TEST(Budget, disk_does_not_change_a_bit) {
  for (const Rewrite* method : methods_for_tests())
    for (double clip : {1.0, 0.0})
      for (int64_t accumulate : {1, 2}) {
        SCOPED_TRACE(fmt::format("{} clip {} accumulate {}", method->name, clip, accumulate));
        // The other methods add to the graph, not to what the disk does: updates at once and one speed of the disk show
        // their bits.
        const bool every = method == &kFull || method == &kLora;
        if (!every && !whole_tests() && (clip > 0 || accumulate > 1)) continue;
        TrainingSpec spec = tiny_spec(*method);
        spec.clip = clip, spec.accumulate = accumulate;
        const auto free_plan = plan_training(spec, Machine{});
        ASSERT_TRUE(free_plan) << free_plan.error().message;
        const int steps = every ? 3 : 2;
        const Trajectory expected = run_plan(spec, *free_plan, steps);
        const int64_t without = smallest_budget(spec);
        spec.disk = true, spec.disk_least_bytes = 4096;
        const int64_t least = smallest_budget(spec);
        EXPECT_LT(least, without);
        const std::vector<double> some = every ? std::vector{1e7, 1e15} : std::vector{1e9};
        for (double disk : every&& whole_tests() ? std::vector{1e7, 1e9, 1e15} : some)
          for (int64_t budget : {least, (least + without) / 2, without - 1}) {
            if (!every && !whole_tests() && budget != least) continue;
            spec.budget_bytes = budget;
            const auto plan = plan_training(spec, Machine{.disk = {disk, disk}});
            ASSERT_TRUE(plan) << plan.error().message;
            EXPECT_LE(plan->bytes(), budget);
            EXPECT_EQ(plan->numerics_hash, free_plan->numerics_hash);
            // A side network's own values may all be too small for the disk, so that nothing is written.
            const int64_t moved = every ? plan->written_bytes : plan->read_bytes;
            EXPECT_TRUE(budget != least || std::min(plan->read_bytes, moved) > 0);
            EXPECT_EQ(run_plan(spec, *plan, steps), expected)
                << "budget " << budget << ", disk " << disk << ", rows " << plan->rows << ", deep "
                << plan->choice.blocks.deep_blocks;
          }
      }
}

TEST(Budget, refusal_names_the_smallest_that_does) {
  TrainingSpec spec = tiny_spec();
  const int64_t least = smallest_budget(spec);
  ASSERT_GT(least, 1'000'000);
  spec.budget_bytes = least;
  EXPECT_TRUE(plan_training(spec, Machine{}));
  // The message rounds up to whole megabytes: two less never fit.
  spec.budget_bytes = least - 2'000'000;
  const auto refused = plan_training(spec, Machine{});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::over_budget);
  for (const char* part : {"--memory", "smallest budget", "largest parts", "workspace", "--context", "--batch", "lora"})
    EXPECT_THAT(refused.error().message, HasSubstr(part));
}

// Nothing is advised that the run has no flag for, or that it does already.
TEST(Budget, refusal_advises_what_applies) {
  const auto refusal = [](TrainingSpec spec) {
    spec.budget_bytes = 1'000'000;
    const auto refused = plan_training(spec, Machine{});
    EXPECT_FALSE(refused);
    return refused ? "" : refused.error().message;
  };
  TrainingSpec spec = tiny_spec(kLora);
  EXPECT_THAT(refusal(spec), AllOf(HasSubstr("(a --rank below "), Not(HasSubstr("--method"))));
  spec.batch = 1;
  EXPECT_THAT(refusal(spec), Not(HasSubstr("--batch")));
  spec.rewrites = {rewrite_for_tests(kLora, spec.architecture, 1)};
  EXPECT_THAT(refusal(spec), Not(HasSubstr("--rank")));
  spec = tiny_spec();
  spec.from_scratch = true;
  EXPECT_THAT(refusal(spec), AllOf(HasSubstr("smaller --size"), Not(HasSubstr("--method"))));
}

// The bound holds at every budget, falls as the budget grows, and is reached where nothing is given up.
TEST(Budget, no_plan_beats_the_bound) {
  for (const Rewrite* method : methods_for_tests())
    for (double disk : {1e8, 1e10}) {
      TrainingSpec spec = tiny_spec(*method);
      spec.disk = true, spec.disk_least_bytes = 4096;
      const Machine machine{.disk = {disk, disk / 2}};
      const auto plenty = plan_training(spec, machine);
      ASSERT_TRUE(plenty);
      EXPECT_GT(plenty->least_seconds, 0);
      EXPECT_NEAR(plenty->seconds, plenty->least_seconds, 1e-9 * plenty->seconds);
      TrainingPlanner planner(spec, machine);
      const int64_t least = smallest_budget(spec), most = plenty->bytes();
      double slower = HUGE_VAL, slower_bound = HUGE_VAL;
      const int budgets = method == &kFull || method == &kLora || whole_tests() ? 24 : 6;
      for (int i = 0; i <= budgets; ++i) {
        spec.budget_bytes = least + (most - least) * i / budgets;
        const auto plan = planner.plan();
        ASSERT_TRUE(plan) << plan.error().message;
        EXPECT_GE(plan->seconds, plan->least_seconds * (1 - 1e-9));
        EXPECT_LE(plan->least_seconds, slower_bound * (1 + 1e-9));
        EXPECT_LE(plan->seconds, slower * (1 + 1e-9)) << spec.budget_bytes << " of " << least << " to " << most;
        slower = plan->seconds, slower_bound = plan->least_seconds;
        if (i == 0) {
          EXPECT_GE(plan->least_seconds, plenty->least_seconds);
          // Where little is kept for the backward pass, workspace alone decides the smallest budget.
          if (method == &kFull || method == &kLora)
            EXPECT_GT(plan->least_seconds, plenty->least_seconds) << "the bound does not see the budget";
        }
      }
      EXPECT_NEAR(slower, plenty->seconds, 1e-9 * slower);
    }
}

// What is not scheduled since it cannot fit, would not have.
TEST(Budget, no_choice_takes_less_than_its_least_bytes) {
  for (const Rewrite* method : methods_for_tests())
    for (const bool keep_logits : {false, true}) {
      SCOPED_TRACE(method->name);
      TrainingSpec spec = tiny_spec(*method);
      spec.disk = true, spec.disk_least_bytes = 4096;
      Estimates estimates;
      const Machine machine{.disk = {1e9, 1e9}};
      Candidates candidates(spec, machine, {spec.batch * spec.context, keep_logits}, estimates);
      PassBuilder builder(spec);
      const auto built = candidates.build(builder);
      ASSERT_TRUE(built) << built.error().message;
      for (size_t deep = 0; deep < kHomes.size(); ++deep)
        for (size_t shallow = 0; shallow < kHomes.size(); ++shallow)
          for (const int blocks : {1, candidates.blocks()})
            for (const size_t on_disk : {size_t{0}, candidates.list_size() / 2, candidates.list_size()}) {
              const Choice choice{.blocks = {deep, shallow, blocks}, .on_disk = on_disk};
              EXPECT_GE(candidates.estimate(choice, 0).bytes, candidates.least_bytes(choice))
                  << kHomes[deep].text << ", " << kHomes[shallow].text << ", " << blocks << " deep, " << on_disk;
            }
      constexpr size_t kOnlyInputs = 3;
      static_assert(kHomes[kOnlyInputs].recompute == Home::Recompute::inner && !kHomes[kOnlyInputs].on_disk());
      EXPECT_GT(candidates.least_bytes({}), candidates.least_bytes({.blocks = BlockHomes::all(kOnlyInputs)}));
    }
}

TEST(Budget, less_memory_never_predicts_less_time) {
  TrainingSpec spec = tiny_spec();
  const int64_t least = smallest_budget(spec);
  double slower = HUGE_VAL;
  for (int64_t budget = least; budget < 3 * least; budget += least / 5) {
    spec.budget_bytes = budget;
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan);
    EXPECT_LE(plan->seconds, slower * (1 + 1e-12)) << budget;
    slower = plan->seconds;
  }
}

}  // namespace
}  // namespace thimble
