// NoProp: the losses of blocks, that none hears of another, what is kept, and the steps of the schedule.
#include <gmock/gmock.h>

#include <cmath>

#include "models/denoising.h"
#include "plan/local_losses.h"

namespace thimble {
namespace {

using testing::HasSubstr;

TrainingSpec noprop_spec(int64_t layers) {
  TrainingSpec spec = local_spec(kNoprop, layers);
  spec.architecture.denoises = true;
  spec.architecture.labels = Labels{.names = std::vector<std::string>(160, "label")};
  spec.objective = &kClassification, spec.objective_options = OptionValues(kClassification.options);
  return spec;
}

// z_t of z_(t-1) is the mean of a normal distribution: with the noise that belongs to it both have the signal and
// noise of the schedule.
TEST(Denoising, steps_keep_the_schedule) {
  for (const int64_t steps : {1, 4, 30}) {
    EXPECT_EQ(denoising_signal(0, steps), 0);
    for (int64_t t = 1; t <= steps; ++t) {
      const double before = denoising_signal(t - 1, steps), now = denoising_signal(t, steps), r = before / now;
      const DenoisingStep step = denoising_step(t, steps);
      EXPECT_GT(now, before);
      EXPECT_NEAR(step.a + step.b * std::sqrt(before), std::sqrt(now), 1e-12) << "of the embedding";
      const double own = (1 - now) * (1 - r) / (1 - before);  // the variance of the posterior
      EXPECT_NEAR(step.b * step.b * (1 - before) + own, 1 - now, 1e-12) << "of the noise";
    }
  }
}

TEST(Noprop, has_the_gradients_of_its_losses) {
  const TrainingSpec spec = noprop_spec(4);
  expect_gradient(spec, "model.layers.0.mlp.up_proj.weight", "train.nll.module_1");
  expect_gradient(spec, "model.layers.2.self_attn.q_proj.weight", "train.nll.module_3");
  expect_gradient(spec, "model.layers.3.mlp.down_proj.weight", "train.nll.module_4");
}

// A block that adds nothing loses the whole embedding, whose mean square is 1.
TEST(Noprop, has_the_loss_of_the_paper) {
  const TrainingSpec spec = noprop_spec(3);
  Numbers begin = values_after(spec, 0, 0);
  for (auto& [name, numbers] : begin)
    if (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight")) std::ranges::fill(numbers, 0.0f);
  const Numbers results = after_a_step(spec, 0, begin);
  const auto snr = [](int64_t t) { return denoising_signal(t, 3) / (1 - denoising_signal(t, 3)); };
  for (int64_t t = 1; t <= 3; ++t) {
    double sum = 0;
    for (const float row : results.at(fmt::format("train.nll.module_{}", t))) sum += double{row};
    const double texts = 2, scale = 1.0 / 128;  // as the harness counts
    EXPECT_NEAR(sum, 0.1 / 2 * (snr(t) - snr(t - 1)) * texts * scale, 0.04 * sum);
  }
}

// Neither forwards nor backwards.
TEST(Noprop, no_block_hears_of_another) {
  const TrainingSpec spec = noprop_spec(4);
  Numbers begin = values_after(spec, 0, 0);
  const Numbers before = after_a_step(spec, 0.1, begin);
  for (auto& [name, numbers] : begin)
    if (name.starts_with("model.layers.1."))
      for (float& x : numbers) x *= 1.5f;
  const Numbers after = after_a_step(spec, 0.1, begin);
  for (const auto& [name, numbers] : after)
    if (before.contains(name) && !name.starts_with("model.layers.1.") && name != "update.norm" &&
        name != "train.nll.module_2" && !name.starts_with("update."))
      EXPECT_EQ(numbers, before.at(name)) << name;
  EXPECT_NE(after.at("train.nll.module_2"), before.at("train.nll.module_2"));
}

TEST(Noprop, keeps_the_activations_of_one_block) {
  int64_t kept[2], transient[2];
  for (const int64_t layers : {4, 16}) {
    const auto plan = plan_training(noprop_spec(layers), Machine{});
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(turns(plan->train.graph, plan->pass).size(), static_cast<size_t>(layers + 1));
    kept[layers == 16] = kept_bytes(*plan), transient[layers == 16] = plan->transient_bytes;
  }
  const int64_t norms = 64 * 12 * 9;
  EXPECT_LE(kept[1] - kept[0], norms);
  EXPECT_LE(transient[1] - transient[0], norms);
}

TEST(Noprop, has_the_same_bits_at_every_budget) {
  for (const double clip : {0.0, 1.0}) {
    TrainingSpec spec = noprop_spec(4);
    spec.set_optimizer({&kAdamw, {}});
    spec.clip = clip, spec.activation = &kBf16, spec.batch = 16;
    if (clip > 0) spec.keepers = *keepers_named("q8_0");
    expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
  }
}

// The chain of a model that predicts is differentiable like any other.
TEST(Noprop, such_a_model_trains_by_backpropagation_too) {
  TrainingSpec spec = noprop_spec(3);
  spec.estimator = &kBackprop, spec.estimator_options = OptionValues(kBackprop.options);
  expect_gradient(spec, "model.layers.0.mlp.up_proj.weight", "train.nll");
  expect_gradient(spec, "model.layers.2.self_attn.v_proj.weight", "train.nll");
}

TEST(Noprop, refuses_what_it_is_not_for) {
  const auto error = [](const TrainingSpec& spec) {
    const auto plan = plan_training(spec, Machine{});
    EXPECT_FALSE(plan);
    return plan ? "" : plan.error().message;
  };
  TrainingSpec plain = noprop_spec(4);
  plain.architecture.denoises = false;
  EXPECT_THAT(error(plain), HasSubstr("block.denoises=1"));
  TrainingSpec tokens = noprop_spec(4);
  tokens.architecture.labels = {};
  tokens.objective = &kNextToken, tokens.objective_options = OptionValues(kNextToken.options);
  EXPECT_THAT(error(tokens), HasSubstr("--objective classification"));
  TrainingSpec local = noprop_spec(4);
  local.estimator = &kLocal, local.estimator_options = OptionValues(kLocal.options);
  EXPECT_THAT(error(local), HasSubstr("--estimator noprop"));
}

}  // namespace
}  // namespace thimble
