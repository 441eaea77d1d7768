// LaMDA in training: columns of the second projection freeze one after another, and stay whatever the optimizer has in
// mind for them.
#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

TrainingSpec spec_of(int64_t frozen_by, int64_t steps) {
  TrainingSpec spec = adapted_spec(kLamda, {{"rank", 4}, {"frozen_by", static_cast<double>(frozen_by)}}, {&kAdamw, {}});
  spec.scheduled_steps = steps;
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

// Layers [64, 128] with spectra of ones, of a slow and of a steep fall: the flatter one gets the larger rank, and S and
// B have no more numbers than with one rank.
TEST(Lamda, gives_ranks_by_energy_within_the_numbers_of_one_rank) {
  constexpr int64_t kRank = 8, kOut = 64;
  std::map<std::string, AdaptedModule> modules;
  Settling::Measured measured;
  for (const auto& [name, fall] : {std::pair{"flat", 1.0}, {"slow", 0.9}, {"steep", 0.3}}) {
    modules[name].options = OptionValues(kLamda.options);
    ASSERT_TRUE(modules[name].options.set("lamda", "rank", kRank));
    modules[name].whole = kOut;
    for (int i = 0; i < 2 * kRank; ++i) measured[name].push_back(static_cast<float>(std::pow(fall, i)));
  }
  const auto said = kLamda.settling->settle(measured, modules);
  ASSERT_TRUE(said) << said.error().message;
  const auto rank = [&](const char* name) { return static_cast<int64_t>(modules.at(name).options["rank"]); };
  EXPECT_GT(rank("flat"), rank("slow"));
  EXPECT_GT(rank("slow"), rank("steep"));
  EXPECT_EQ(rank("steep"), kRank / 2);
  const auto numbers = [](int64_t r) { return r * (r + kOut); };
  const int64_t used = numbers(rank("flat")) + numbers(rank("slow")) + numbers(rank("steep"));
  EXPECT_LE(used, 3 * numbers(kRank));
  EXPECT_GT(used, 3 * numbers(kRank) - (kOut + 4 * kRank)) << "room for one rank more";
  // The layer of the least part of its energy was raised last: of `flat` r ranks hold r / 16.
  const auto kept = [&](const char* name, int64_t r) {
    double sum = 0, all = 0;
    for (int64_t i = 0; i < 2 * kRank; ++i) {
      const double square = std::pow(double{measured.at(name)[static_cast<size_t>(i)]}, 2);
      all += square, sum += i < r ? square : 0;
    }
    return sum / all;
  };
  EXPECT_LE(kept("slow", rank("slow") - 1), kept("flat", rank("flat"))) << "raised before it was its turn";
}

TEST(Lamda, trains_ranks_of_layers_within_one_plan) {
  TrainingSpec spec = spec_of(2, 0);
  int64_t rank = 2;
  for (auto& [name, module] : spec.rewrites.front().modules)
    ASSERT_TRUE(module.options.set("lamda", "rank", static_cast<double>(rank++ % 5 + 2)));
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  std::set<int64_t> ranks;
  for (const TrainedParameter& parameter : plan->train.parameters)
    if (parameter.name.ends_with("lamda_S")) ranks.insert(parameter.shape[0]);
  EXPECT_EQ(ranks.size(), 5U);
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 3);
}

}  // namespace
}  // namespace thimble
