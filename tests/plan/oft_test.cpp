// Constrained OFT in training: numbers are within the bound behind every step, and count so before it.
#include <gmock/gmock.h>

#include <cmath>

#include "core/random.h"
#include "plan/local_losses.h"

namespace thimble {
namespace {

constexpr double kEps = 1e-2;
const std::string kR = "model.layers.1.mlp.down_proj.oft_R.weight";

TrainingSpec spec_of(double constrained) {
  TrainingSpec spec = adapted_spec(kOft, {{"block_size", 8}, {"constrained", constrained}, {"eps", kEps}}, {&kSgd, {}});
  spec.activation = &kF32;
  return spec;
}

// Of every layer; some blocks are within the bound, some far beyond it.
Numbers far_beyond(const TrainingSpec& spec) {
  Numbers begin;
  const Random random(3, "rotations");
  uint64_t next = 0;
  for (auto& [name, numbers] : after_a_step(spec, 0)) {
    if (!name.ends_with(".oft_R.weight")) continue;
    for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = random.normal(next++) * (i / 28 % 2 == 0 ? 0.05f : 1e-5f);
    begin[name] = numbers;
  }
  return begin;
}

// Blocks of 8 have 28 numbers above the diagonal, each of which is twice in Q.
std::vector<float> bounded(std::vector<float> numbers) {
  const size_t blocks = numbers.size() / 28;
  const double bound = kEps / std::sqrt(static_cast<double>(blocks));
  for (size_t block = 0; block < blocks; ++block) {
    double squares = 0;
    for (size_t i = 0; i < 28; ++i) squares += 2 * std::pow(double{numbers[block * 28 + i]}, 2);
    const double by = std::min(1.0, bound / std::sqrt(squares));
    for (size_t i = 0; i < 28; ++i) numbers[block * 28 + i] = static_cast<float>(numbers[block * 28 + i] * by);
  }
  return numbers;
}

// What is beyond the bound has the gradient that it has there where it is scaled down.
TEST(ConstrainedOft, a_step_ends_within_the_bound) {
  const TrainingSpec constrained = spec_of(1), free = spec_of(0);
  const Numbers far = far_beyond(free);
  ASSERT_TRUE(far.contains(kR));
  Numbers within;
  for (const auto& [name, numbers] : far) within[name] = bounded(numbers);
  constexpr double kRate = 1e-1;
  const Numbers near = after_a_step(constrained, kRate, within), beyond = after_a_step(constrained, kRate, far),
                expected = after_a_step(free, kRate, within);
  double moved = 0, cut = 0;
  for (const auto& [name, numbers] : within) {
    const std::vector<float> bound = bounded(expected.at(name));
    std::vector<float> from_far = far.at(name);
    for (size_t i = 0; i < numbers.size(); ++i) from_far[i] += expected.at(name)[i] - numbers[i];
    from_far = bounded(from_far);
    for (size_t i = 0; i < numbers.size(); ++i) {
      moved = std::max(moved, std::abs(double{bound[i]} - numbers[i]));
      cut = std::max(cut, std::abs(double{expected.at(name)[i]} - bound[i]));
      ASSERT_NEAR(near.at(name)[i], bound[i], 1e-7) << name << ", element " << i;
      ASSERT_NEAR(beyond.at(name)[i], from_far[i], 1e-7) << name << ", element " << i;
    }
  }
  EXPECT_GT(moved, 1e-5);
  EXPECT_GT(cut, 1e-5);
}

TEST(ConstrainedOft, trains_the_same_bits_at_the_smallest_budget_and_on_disk) {
  TrainingSpec spec = spec_of(1);
  spec.accumulate = 2;
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 3);
}

}  // namespace
}  // namespace thimble
