// IST: which layers are drawn by an importance, how it is learnt, and that a plan has room for any draw.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/selecting.h"
#include "plan/selection.h"

namespace thimble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TrainingSpec ist(std::string_view layers, std::string_view period) { return drawing(kIst, layers, period, kLora); }

// With importances so far apart the largest are drawn for certain.
TEST(Ist, draws_the_important_layers_and_leaves_room_for_any) {
  TrainingSpec spec = ist("2", "1");
  const auto first = plan_training(spec, Machine{});
  ASSERT_TRUE(first) << first.error().message;
  const PeriodNeeds room{first->transient_bytes, first->scratch_bytes};
  for (int a = 0; a < 4; ++a)
    for (int b = 0; b < a; ++b) {
      spec.importance.assign(4, -1000);
      spec.importance[static_cast<size_t>(a)] = spec.importance[static_cast<size_t>(b)] = 1000;
      const auto plan = plan_period(spec, Machine{}, *first, 1 + a, room);
      ASSERT_TRUE(plan) << plan.error().message;
      EXPECT_EQ(drawn_layers(*plan), (std::set<int>{a, b}));
      EXPECT_TRUE(plan->layout.same_places(first->layout));
      EXPECT_EQ(plan->choice.blocks.deep, first->choice.blocks.deep) << "it keeps what the plan does";
    }
}

// Weights sigmoid(I) of 0.88, 0.5, 0.12: a layer alone is drawn in proportion to them.
TEST(Ist, draws_in_proportion_to_the_sigmoid_of_importance) {
  const OptionValues options = [] {
    OptionValues values(kIst.options);
    EXPECT_TRUE(values.set("ist", "layers", 1.0));
    return values;
  }();
  const std::vector<Selectable> parameters = {
      {"a", {1}, 0, 0}, {"b", {1}, 1, 1}, {"c", {1}, 2, 2}, {"head", {1}, 3, 3}};
  const std::vector<double> importance = {2, 0, -2};
  constexpr int kDraws = 3000;
  std::vector<int> times(3);
  for (int draw = 0; draw < kDraws; ++draw) {
    const auto trains = kIst.select({parameters, 3, options, 7, draw, {}, importance});
    ASSERT_TRUE(trains);
    EXPECT_EQ((*trains)[3], Trains::now);
    for (size_t i = 0; i < 3; ++i) times[i] += (*trains)[i] == Trains::drawn;
  }
  for (size_t i = 0; i < 3; ++i)
    EXPECT_NEAR(times[i] / double{kDraws}, 1 / (1 + std::exp(-importance[i])) / 1.5, 0.036) << i;  // four deviations
}

// Once more, in the words of the authors' code: scores of unimportance, rewards less their mean.
TEST(Ist, learns_from_the_losses_of_different_sets) {
  const OptionValues options(kIst.options);
  const Probing& probing = *kIst.probing;
  EXPECT_EQ(probing.scale(options), 0.25);
  std::vector<double> importance = {0, 0.5, -1, 2, 0, 0, 0.25, -3};
  const auto sets = probing.suppressed({{}, 8, options, 1, 5, {}, importance});
  ASSERT_EQ(sets.size(), 3U);
  for (size_t k = 0; k < 3; ++k) {
    EXPECT_EQ(std::ranges::count(sets[k], true), 4);
    for (size_t j = 0; j < k; ++j) EXPECT_NE(sets[k], sets[j]);
  }
  const std::vector<double> losses = {2.5, 2.0, 3.1};
  std::vector<double> rewards, scores;
  for (const double loss : losses) rewards.push_back(std::exp(-loss));
  const double mean = (rewards[0] + rewards[1] + rewards[2]) / 3;
  for (const double i : importance) scores.push_back(-i);
  std::vector<double> expected = scores;
  for (size_t k = 0; k < 3; ++k)
    for (size_t i = 0; i < 8; ++i) {
      const double p = 1 / (1 + std::exp(-scores[i]));
      if (sets[k][i]) expected[i] += (rewards[k] - mean) * p * (1 - p) * 10;
    }
  probing.learn(options, sets, losses, importance);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(importance[i], -expected[i], 1e-12) << i;
}

TEST(Ist, suppresses_what_the_adapters_of_a_layer_add) {
  const TrainingSpec spec = ist("2", "1");
  const TrainingSpec less = suppressed_spec(spec, {false, true, false, false});
  for (const auto& [name, module] : less.rewrites[0].modules)
    EXPECT_EQ(module.scale, module.layer == 1 ? 0.25 : 1) << name;
}

TEST(Ist, gives_the_same_bits_at_every_budget) { expect_same_at_every_budget(ist("1", "2")); }

TEST(Ist, is_refused_where_it_means_nothing) {
  EXPECT_THAT(plan_training(ist("5", "1"), Machine{}).error().message, HasSubstr("the model has 4 layers"));
  TrainingSpec spec = ist("1", "1");
  set(spec, "suppressed", "5");
  EXPECT_THAT(plan_training(spec, Machine{}).error().message, HasSubstr("ist.suppressed=5: the model has 4"));
  EXPECT_THAT(plan_training(selecting(kIst), Machine{}).error().message, AllOf(HasSubstr("lora"), HasSubstr("full")));
  spec = ist("1", "1"), spec.objective = &kKto, spec.objective_options = OptionValues(kKto.options);
  EXPECT_THAT(plan_training(spec, Machine{}).error().message, HasSubstr("kto"));
}

}  // namespace
}  // namespace thimble
