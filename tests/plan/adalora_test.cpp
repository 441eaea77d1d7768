// AdaLoRA in training: the gradient that keeps its factors orthogonal, the importance of numbers, and the budget of
// ranks that falls from step to step; the equations once more in double.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

constexpr int64_t kRank = 4;

TrainingSpec spec_of(std::vector<std::pair<std::string_view, double>> options) {
  options.insert(options.begin(), {{"init_rank", kRank}, {"rank", 2}});
  TrainingSpec spec = adapted_spec(kAdalora, options, {&kSgd, {}});
  spec.clip = 0, spec.activation = &kF32, spec.batch = 4;
  return spec;
}

const std::string kModule = "model.layers.1.mlp.down_proj";  // [64, 128], of 28 layers

// d/dA of |A A^T - I|, A [rank, columns]; of B its transpose.
std::vector<double> departure_gradient(const std::vector<float>& p, size_t rank, size_t columns, bool transposed) {
  const auto at = [&](size_t r, size_t c) {
    return static_cast<double>(transposed ? p[c * rank + r] : p[r * columns + c]);
  };
  std::vector<double> m(rank * rank), out(p.size());
  double squares = 0;
  for (size_t i = 0; i < rank; ++i)
    for (size_t j = 0; j < rank; ++j) {
      for (size_t c = 0; c < columns; ++c) m[i * rank + j] += at(i, c) * at(j, c);
      m[i * rank + j] -= i == j;
      squares += m[i * rank + j] * m[i * rank + j];
    }
  for (size_t i = 0; i < rank; ++i)
    for (size_t c = 0; c < columns; ++c) {
      double sum = 0;
      for (size_t j = 0; j < rank; ++j) sum += m[i * rank + j] * at(j, c);
      out[transposed ? c * rank + i : i * columns + c] = 2 * sum / std::sqrt(squares);
    }
  return out;
}

TEST(Adalora, keeps_its_factors_orthogonal) {
  const TrainingSpec with = spec_of({{"orthogonal", 40}}), without = spec_of({{"orthogonal", 0}});
  const auto before = values_after(with, 0, 1), after = values_after(with, 1, 1), plain = values_after(without, 1, 1);
  for (const auto& [factor, columns] : {std::pair{".lora_A", 128}, {".lora_B", 64}}) {
    const std::string name = kModule + factor;
    const bool b = columns == 64;
    const auto expected = departure_gradient(before.at(name), kRank, static_cast<size_t>(columns), b);
    for (size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(plain.at(name)[i] - after.at(name)[i], 40.0 / (2 * 28) * expected[i], 2e-5) << name << " " << i;
  }
}

TEST(Adalora, measures_sensitivity_and_its_uncertainty) {
  const TrainingSpec spec = spec_of({{"orthogonal", 40}, {"beta1", 0.7}, {"beta2", 0.6}});
  const auto begun = values_after(spec, 0, 1), one = values_after(spec, 1, 1), two = values_after(spec, 2, 1);
  for (const char* factor : {".lora_A", ".lora_B", ".lora_E"}) {
    const std::string name = kModule + factor;
    double moved = 0;
    for (size_t i = 0; i < begun.at(name).size(); ++i) {
      // The rate is 1: the gradient is what the parameter has moved by.
      const double first = std::abs(begun.at(name)[i] * (double{begun.at(name)[i]} - one.at(name)[i]));
      const double second = std::abs(one.at(name)[i] * (double{one.at(name)[i]} - two.at(name)[i]));
      const double a1 = 0.3 * first, u1 = 0.4 * std::abs(first - a1);
      const double a2 = 0.7 * a1 + 0.3 * second, u2 = 0.6 * u1 + 0.4 * std::abs(second - a2);
      ASSERT_NEAR(one.at("adalora.sensitivity." + name)[i], a1, 1e-6);
      ASSERT_NEAR(one.at("adalora.uncertainty." + name)[i], u1, 1e-6);
      ASSERT_NEAR(two.at("adalora.sensitivity." + name)[i], a2, 1e-6);
      ASSERT_NEAR(two.at("adalora.uncertainty." + name)[i], u2, 1e-6);
      moved += a2;
    }
    EXPECT_GT(moved, 0) << name;
  }
}

int64_t ranks_left(const std::map<std::string, std::vector<float>>& values, const std::string& prefix) {
  int64_t left = 0;
  for (const auto& [name, numbers] : values)
    if (name.starts_with(prefix) && name.ends_with(".lora_E"))
      left += std::ranges::count_if(numbers, [](float e) { return e != 0; });
  return left;
}

TEST(Adalora, allots_a_falling_budget_and_keeps_what_is_left) {
  const TrainingSpec spec = spec_of({{"total", 8}, {"tinit", 1}, {"tfinal", 3}, {"every", 2}});
  // Steps from 0: after 2 and 4 ranks are allotted, and from 5 = total - tfinal on those stay.
  const auto budget = [](double i) { return std::floor(56 * std::pow(1 - (i - 1) / 4, 3) + 56); };
  std::vector<std::map<std::string, std::vector<float>>> steps;
  for (int i = 0; i < 8; ++i) steps.push_back(values_after(spec, i + 1, 0.1));
  EXPECT_EQ(ranks_left(steps[1], "model."), 112) << "all of 28 layers";
  EXPECT_EQ(ranks_left(steps[2], "model."), budget(2));
  EXPECT_EQ(ranks_left(steps[3], "model."), 112) << "those that were cleared move again";
  EXPECT_EQ(ranks_left(steps[4], "model."), budget(4));
  EXPECT_EQ(ranks_left(steps[4], "adalora.left."), 112);
  for (size_t i = 5; i < 8; ++i) {
    EXPECT_EQ(ranks_left(steps[i], "model."), 56) << i;
    EXPECT_EQ(ranks_left(steps[i], "adalora.left."), 56) << i;
    for (const auto& [name, numbers] : steps[5])
      if (name.starts_with("adalora.left.")) EXPECT_EQ(steps[i].at(name), numbers) << name;
  }
}

TEST(Adalora, trains_the_same_bits_at_the_smallest_budget_and_on_disk) {
  TrainingSpec spec = spec_of({{"total", 4}, {"tfinal", 1}});
  spec.set_optimizer({&kAdamw, {}});
  ASSERT_TRUE(add_wrappers(spec));
  spec.clip = 1, spec.accumulate = 2, spec.batch = 8;
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 4);
}

TEST(Adalora, refuses_a_schedule_without_a_step_that_allots) {
  TrainingSpec spec = tiny_spec(kAdalora);
  spec.scheduled_steps = 10;
  EXPECT_TRUE(spec.rewrites.front().options.set("adalora", "tinit", 6));
  EXPECT_TRUE(spec.rewrites.front().options.set("adalora", "tfinal", 4));
  const auto refused = add_wrappers(spec);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("no step is"));
  spec = tiny_spec(kAdalora);
  spec.scheduled_steps = 10;
  EXPECT_TRUE(spec.rewrites.front().options.set("adalora", "init_rank", 2));
  const auto fewer = add_wrappers(spec);
  ASSERT_FALSE(fewer);
  EXPECT_THAT(fewer.error().message, testing::HasSubstr("begin with 2 ranks"));
  spec = tiny_spec(kAdalora);
  spec.set_optimizer({&kGalore, {}});
  EXPECT_FALSE(add_wrappers(spec)) << "it keeps no whole gradient";
}

}  // namespace
}  // namespace thimble
