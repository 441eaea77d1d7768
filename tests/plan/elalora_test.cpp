// ElaLoRA in training: how many ranks there are and where they go, and what a new one begins with.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

constexpr int64_t kRoom = 4;  // of 28 layers

TrainingSpec spec_of(std::vector<std::pair<std::string_view, double>> options) {
  options.insert(options.begin(), {{"init_rank", kRoom}, {"rank", 2}, {"every", 1}});
  TrainingSpec spec = adapted_spec(kElalora, options, {&kSgd, {}});
  spec.clip = 0, spec.activation = &kF32, spec.batch = 4;
  return spec;
}

using All = std::map<std::string, std::vector<float>>;

// Ranks that are there, by layer.
std::map<std::string, int64_t> ranks_of(const All& values) {
  std::map<std::string, int64_t> ranks;
  for (const auto& [name, numbers] : values)
    if (name.starts_with("model.") && name.ends_with(".lora_E"))
      ranks[name.substr(0, name.size() - 7)] = std::ranges::count_if(numbers, [](float e) { return e != 0; });
  return ranks;
}
int64_t total(const std::map<std::string, int64_t>& ranks) {
  int64_t sum = 0;
  for (const auto& [layer, count] : ranks) sum += count;
  return sum;
}

TEST(Elalora, moves_so_many_ranks_and_keeps_one_in_every_layer) {
  const TrainingSpec spec = spec_of({{"total", 6}, {"tinit", 1}, {"tfinal", 2}, {"moves", 5}, {"falling", 0}});
  std::vector<All> steps;
  for (int i = 0; i < 6; ++i) steps.push_back(values_after(spec, i));
  const auto begun = ranks_of(steps[0]);
  ASSERT_EQ(begun.size(), 28U);
  EXPECT_EQ(total(begun), 56);
  // Steps 0 and 1 move none, as 1 is not behind tinit; 2 and 3 do; 4 = total - tfinal and later ones do not.
  EXPECT_EQ(ranks_of(steps[2]), begun);
  EXPECT_NE(ranks_of(steps[3]), begun);
  EXPECT_NE(ranks_of(steps[4]), ranks_of(steps[3]));
  EXPECT_EQ(ranks_of(steps[5]), ranks_of(steps[4]));
  for (const size_t step : {3, 4}) {
    EXPECT_EQ(total(ranks_of(steps[step])), 56);
    int64_t gained = 0;
    for (const auto& [layer, count] : ranks_of(steps[step])) {
      EXPECT_GE(count, 1) << layer;
      EXPECT_LE(count, kRoom) << layer;
      gained += std::max<int64_t>(0, count - ranks_of(steps[step - 1]).at(layer));
    }
    EXPECT_GT(gained, 0);
    EXPECT_LE(gained, 5);
  }
}

TEST(Elalora, begins_ranks_across_those_that_are_there) {
  const TrainingSpec spec = spec_of({{"total", 6}, {"moves", 5}, {"falling", 0}});
  const All before = values_after(spec, 1), after = values_after(spec, 2);
  int fresh = 0;
  for (const auto& [layer, count] : ranks_of(after)) {
    const auto &was = before.at(layer + ".lora_E"), &is = after.at(layer + ".lora_E"), &a = after.at(layer + ".lora_A"),
               &old = before.at(layer + ".lora_A"), &of_a = after.at("elalora.sensitivity." + layer + ".lora_A");
    const size_t in = a.size() / kRoom;
    for (size_t k = 0; k < kRoom; ++k) {
      if (was[k] != 0 || is[k] == 0) continue;
      ++fresh;
      EXPECT_EQ(is[k], 1e-13f);
      double length = 0;
      for (size_t c = 0; c < in; ++c) {
        length += double{a[k * in + c]} * a[k * in + c];
        EXPECT_EQ(of_a[k * in + c], 0);
      }
      EXPECT_NEAR(length, 1, 1e-4);
      // Less what lies along the rows that were there, as the step began: rows are short here, so that it is little.
      EXPECT_NE(a[k * in], old[k * in]);
    }
  }
  EXPECT_GT(fresh, 0);
}

TEST(Elalora, leaves_ranks_that_are_not_there_at_zero) {
  const TrainingSpec spec = spec_of({{"total", 6}, {"tinit", 4}});
  const All values = values_after(spec, 3);
  for (const auto& [name, numbers] : values) {
    if (!name.starts_with("model.") || !name.ends_with(".lora_E")) continue;
    for (size_t k = 0; k < kRoom; ++k) EXPECT_EQ(numbers[k] != 0, k < 2) << name << " " << k;
  }
}

TEST(Elalora, trains_the_same_bits_at_the_smallest_budget_and_on_disk) {
  TrainingSpec spec = spec_of({{"total", 4}, {"tfinal", 1}});
  spec.set_optimizer({&kAdamw, {}});
  ASSERT_TRUE(add_wrappers(spec));
  spec.clip = 1, spec.accumulate = 2, spec.batch = 8;
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 4);
}

TEST(Elalora, refuses_what_moves_nothing) {
  TrainingSpec spec = tiny_spec(kElalora);
  spec.scheduled_steps = 10;
  EXPECT_TRUE(spec.rewrites.front().options.set("elalora", "tinit", 10));
  const auto refused = add_wrappers(spec);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("no step is"));
  spec = tiny_spec(kElalora);
  EXPECT_TRUE(spec.rewrites.front().options.set("elalora", "rank", 20));
  const auto room = add_wrappers(spec);
  ASSERT_FALSE(room);
  EXPECT_THAT(room.error().message, testing::HasSubstr("have room for"));
}

}  // namespace
}  // namespace thimble
