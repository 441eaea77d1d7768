// TAPS in training: what presses scores down, and the gradient that they get through the gate.
#include <gmock/gmock.h>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

const std::string kLayer = "model.layers.1.mlp.down_proj";  // [64, 128], of 28 layers

TrainingSpec spec_of(double penalty) {
  TrainingSpec spec = adapted_spec(kTaps, {{"penalty", penalty}}, {&kSgd, {}});
  spec.clip = 0, spec.activation = &kF32, spec.batch = 4;
  return spec;
}

TEST(Taps, hands_a_score_what_its_difference_is_worth) {
  const auto begun = values_after(spec_of(0), 0, 1), one = values_after(spec_of(0), 1, 1),
             two = values_after(spec_of(0), 2, 1);
  EXPECT_EQ(begun.at(kLayer + ".taps_score")[0], 0.15f);
  EXPECT_EQ(one.at(kLayer + ".taps_score")[0], 0.15f) << "a difference of zero is worth nothing";
  // With a rate of 1 the difference has moved by the gradient dW' of the weight, and the score by sum(dW' D).
  double worth = 0, size = 0;
  const auto &before = one.at(kLayer + ".taps_D"), &after = two.at(kLayer + ".taps_D");
  for (size_t i = 0; i < before.size(); ++i) {
    worth += (double{before[i]} - after[i]) * before[i];
    size += before[i] * before[i];
  }
  EXPECT_GT(size, 0);
  EXPECT_NEAR(0.15 - double{two.at(kLayer + ".taps_score")[0]}, worth, 1e-3 * std::abs(worth) + 1e-7);
}

TEST(Taps, presses_scores_down_until_layers_are_shared_again) {
  // 28 layers: each score falls by 2.8 / 28 a step of a rate of 0.2, and what it gains is far less.
  const TrainingSpec spec = spec_of(2.8);
  const auto one = values_after(spec, 1, 0.2), three = values_after(spec, 3, 0.2), five = values_after(spec, 5, 0.2);
  EXPECT_NEAR(one.at(kLayer + ".taps_score")[0], 0.13, 1e-5);
  EXPECT_LT(three.at(kLayer + ".taps_score")[0], 0.1);
  EXPECT_EQ(three.at(kLayer + ".taps_D"), five.at(kLayer + ".taps_D")) << "of a layer that does not move";
}

}  // namespace
}  // namespace thimble
