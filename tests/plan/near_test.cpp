// Near moves: 8-bit states where they are allowed and the exact plan is slower or does not fit, close to it in loss.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

constexpr int kSteps = 8;
constexpr double kTolerance = 0.02;  // of the loss: docs/methods/int8_block.md

// Of states of parameters that are large enough for it.
int64_t state_bytes(const TrainingPlan& plan) {
  int64_t bytes = 0;
  for (const auto& [name, entry] : plan.layout.entries())
    if (entry.role == Role::state && entry.type.shape.count() >= kLeastCoded) bytes += entry.type.bytes();
  return bytes;
}

TEST(Near, is_taken_only_where_it_is_allowed_and_of_use) {
  TrainingSpec spec = tiny_spec();
  const auto exact = plan_training(spec, Machine{});
  ASSERT_TRUE(exact);
  const int64_t least = smallest_budget(spec);
  spec.budget_bytes = least - 1'000'000;  // the message rounds up to whole megabytes
  EXPECT_FALSE(plan_training(spec, Machine{}));
  spec.near = Near::where_faster;
  const auto near = plan_training(spec, Machine{});
  ASSERT_TRUE(near) << near.error().message;
  EXPECT_TRUE(near->moves.eight_bit_states);
  EXPECT_NE(near->numerics_hash, exact->numerics_hash);
  EXPECT_THAT(near->ledger.choices, testing::Contains(testing::HasSubstr("near: optimizer states")));
  spec.budget_bytes = 0;
  const auto plenty = plan_training(spec, Machine{.encode = 1e8});  // slow to write in 8 bits
  ASSERT_TRUE(plenty);
  EXPECT_FALSE(plenty->moves.eight_bit_states);
  spec.from_scratch = true;  // nothing is skipped
  const auto scratch = plan_training(spec, Machine{.encode = 1e8});
  ASSERT_TRUE(scratch);
  EXPECT_EQ(scratch->moves, NearMoves{});
  EXPECT_EQ(scratch->numerics_hash, exact->numerics_hash);
}

TEST(Near, names_come_back) {
  for (const NearMoves& moves : {NearMoves{}, {true, false}, {false, true}, {true, true}})
    EXPECT_EQ(near_moves(near_names(moves)), moves);
  EXPECT_EQ(near_moves("something of tomorrow"), NearMoves{});
}

// A large head makes what is skipped worth planning for.
TEST(Near, skips_negligible_gradients_of_a_large_head) {
  TrainingSpec spec = tiny_spec();
  spec.architecture.vocab = 4000;
  spec.near = Near::where_faster;
  const auto plan = plan_training(spec, Machine{.encode = 1e8});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->moves, (NearMoves{.skip_negligible = true}));
  EXPECT_THAT(plan->ledger.choices, testing::Contains(testing::HasSubstr("2^-12")));
}

TEST(Near, eight_bit_states_take_a_quarter_and_stay_close) {
  for (const Optimizer* optimizer : optimizers()) {
    SCOPED_TRACE(optimizer->name);
    TrainingSpec spec = tiny_spec();
    spec.batch = 4, spec.context = 256;
    spec.optimizer = optimizer;
    spec.optimizer_options = OptionValues(optimizer->options);
    if (optimizer == &kSgd) {
      ASSERT_TRUE(spec.optimizer_options.set("sgd", "momentum", "0.9"));
    }
    const auto exact = plan_training(spec, Machine{});
    ASSERT_TRUE(exact);
    if (state_bytes(*exact) == 0) continue;  // few numbers a matrix: none is worth a codec here
    spec.near = Near::always;
    spec.moves = {.eight_bit_states = true};
    const auto near = plan_training(spec, Machine{});
    ASSERT_TRUE(near);
    EXPECT_GT(state_bytes(*near), 0);
    // But for states that products read, which stay in their codec.
    double bound = 0;
    for (const TrainedParameter& parameter : near->train.parameters)
      for (const auto& [name, state] : parameter.states)
        if (state.shape.count() >= kLeastCoded)
          bound += state.codec == &kInt8Block ? 0.26 * static_cast<double>(Type{state.shape}.bytes())
                                              : static_cast<double>(Type{state.shape, state.codec}.bytes());
    EXPECT_LT(static_cast<double>(state_bytes(*near)), bound + 1);
    if (bound > 0.9 * static_cast<double>(state_bytes(*exact))) continue;
    const Trajectory expected = run_plan(spec, *exact, kSteps), found = run_plan(spec, *near, kSteps);
    EXPECT_NE(found, expected);
    for (size_t step = 0; step < kSteps; ++step)
      EXPECT_NEAR(found.losses[step], expected.losses[step], kTolerance * expected.losses[step]) << step;
  }
}

// Among near plans every budget gives the same bits too.
TEST(Near, budgets_do_not_change_a_bit) {
  TrainingSpec spec = tiny_spec();
  spec.near = Near::always;
  spec.moves = {.eight_bit_states = true, .skip_negligible = true};
  const auto plenty = plan_training(spec, Machine{.encode = 1e8});  // slow to write in 8 bits
  ASSERT_TRUE(plenty);
  const Trajectory expected = run_plan(spec, *plenty, 3);
  spec.disk = true, spec.disk_least_bytes = 4096;
  spec.budget_bytes = smallest_budget(spec);
  const auto tight = plan_training(spec, Machine{});
  ASSERT_TRUE(tight) << tight.error().message;
  EXPECT_GT(tight->layout.bytes(Role::state, Tier::disk), 0);
  EXPECT_EQ(tight->numerics_hash, plenty->numerics_hash);
  EXPECT_EQ(run_plan(spec, *tight, 3), expected);
}

}  // namespace
}  // namespace thimble
