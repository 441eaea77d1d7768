// P-tuning: what an adapter holds is what the encoder makes when its weights have moved.
#include <gmock/gmock.h>

#include <algorithm>
#include <vector>

#include "plan/local_losses.h"

namespace thimble {
namespace {

TrainingSpec p_tuning_spec() {
  TrainingSpec spec = tiny_spec(kPTuning);
  spec.batch = 2, spec.context = 128;
  return spec;
}

// In double.
std::vector<double> encoded(const Numbers& values, const std::string& of) {
  const auto& tokens = values.at(of + "embedding");
  std::vector<double> x(tokens.begin(), tokens.end());
  for (int layer = 0; layer < 3; ++layer) {
    const auto& weight = values.at(fmt::format("{}{}.weight", of, layer));
    const auto& bias = values.at(fmt::format("{}{}.bias", of, layer));
    const size_t width = bias.size();
    std::vector<double> y(x.size());
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t row = i / width, column = i % width;
      y[i] = double{bias[column]};
      for (size_t j = 0; j < width; ++j) y[i] += x[row * width + j] * double{weight[column * width + j]};
      if (layer < 2) y[i] = std::max(y[i], 0.0);
    }
    x = std::move(y);
  }
  return x;
}

TEST(PTuning, an_adapter_holds_what_the_encoder_makes) {
  const TrainingSpec spec = p_tuning_spec();
  const Numbers begin = values_after(spec, 0, 0), end = values_after(spec, 3, 1e-2);
  const std::string of = "model.embed_tokens.encoder.";
  for (const std::string suffix : {"embedding", "0.weight", "0.bias", "1.weight", "2.bias"})
    EXPECT_NE(end.at(of + suffix), begin.at(of + suffix)) << suffix;
  const auto& saved = end.at("model.embed_tokens.prompt_embeddings");
  const std::vector<double> expected = encoded(end, of);
  ASSERT_EQ(saved.size(), expected.size());
  for (size_t i = 0; i < saved.size(); ++i) ASSERT_NEAR(saved[i], expected[i], 1e-5) << i;
  EXPECT_GT(*std::ranges::max_element(expected), 1e-2);
}

TEST(PTuning, has_the_same_bits_at_every_budget) {
  TrainingSpec spec = p_tuning_spec();
  for (const double clip : {0.0, 1.0}) {
    spec.clip = clip;
    expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
  }
}

TEST(PTuning, is_not_for_optimizers_that_hand_out_averages) {
  TrainingSpec spec = p_tuning_spec();
  spec.set_optimizer({&kScheduleFree, {}});
  const auto plan = plan_training(spec, Machine{});
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error().message, testing::HasSubstr("--optimizer schedule_free"));
}

}  // namespace
}  // namespace thimble
