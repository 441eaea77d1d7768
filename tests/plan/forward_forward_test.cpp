// Forward-forward: the losses of goodness, their gradients, that nothing passes between modules or from what is
// predicted, and what is kept.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/local_losses.h"

namespace thimble {
namespace {

using testing::HasSubstr;

TrainingSpec forward_spec(int64_t layers, double modules, bool collaborates = false) {
  return local_spec(kForwardForward, layers,
                    {{"modules", modules}, {"threshold", 0.01}, {"replaced", 0.5}, {"collaborate", collaborates}});
}

bool of_blocks(const std::string& name, int first, int last) {
  for (int block = first; block <= last; ++block)
    if (name.starts_with(fmt::format("model.layers.{}.", block))) return true;
  return false;
}

double softplus(double x) { return std::log1p(std::exp(-std::abs(x))) + std::max(x, 0.0); }

// Blocks that add nothing have no goodness: a row loses what the threshold alone makes of it, once, or where the hybrid
// is wrong twice.
TEST(ForwardForward, has_the_loss_of_the_paper) {
  TrainingSpec spec = forward_spec(2, 1);
  ASSERT_TRUE(spec.estimator_options.set("forward_forward", "threshold", 0.7 / 64));
  Numbers begin = values_after(spec, 0, 0);
  for (auto& [name, numbers] : begin)
    if (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight")) std::ranges::fill(numbers, 0.0f);
  const std::vector<float> rows = after_a_step(spec, 0, begin).at("train.nll.module_1");
  const double scale = 1.0 / static_cast<double>(rows.size());
  size_t wrong = 0;
  for (const float row : rows) {
    const double text = scale * softplus(0.7), both = text + scale * softplus(-0.7);
    const bool twice = std::abs(double{row} - both) < std::abs(double{row} - text);
    EXPECT_NEAR(row, twice ? both : text, 1e-6 * scale);
    wrong += twice;
  }
  EXPECT_NEAR(static_cast<double>(wrong), 0.5 * static_cast<double>(rows.size()),
              0.15 * static_cast<double>(rows.size()));
}

TEST(ForwardForward, has_the_gradients_of_its_losses) {
  const TrainingSpec spec = forward_spec(4, 2);
  expect_gradient(spec, "model.layers.0.self_attn.q_proj.weight", "train.nll.module_1");
  expect_gradient(spec, "model.layers.1.mlp.down_proj.weight", "train.nll.module_1");
  expect_gradient(spec, "model.layers.3.mlp.up_proj.weight", "train.nll.module_2");
  // Of the last module the others' goodness is a number, and does not depend on its weights.
  expect_gradient(forward_spec(4, 2, true), "model.layers.2.self_attn.v_proj.weight", "train.nll.module_2");
}

// What predicts moves as in the whole model, whose last hidden state is the same; the blocks do not.
TEST(ForwardForward, the_head_learns_to_predict_and_the_blocks_do_not) {
  const Numbers forward = after_a_step(forward_spec(4, 2), 0.1);
  const Numbers whole = after_a_step(local_spec(kBackprop, 4), 0.1);
  EXPECT_EQ(forward.at("model.norm.weight"), whole.at("model.norm.weight"));
  EXPECT_EQ(forward.at("train.nll"), whole.at("train.nll"));
  for (const auto& [name, numbers] : whole)
    if (of_blocks(name, 0, 3)) EXPECT_NE(forward.at(name), numbers) << name;
}

// Whatever it learns to predict: goodness is of the text.
TEST(ForwardForward, the_head_learns_by_every_objective) {
  for (const Objective* objective : objectives()) {
    SCOPED_TRACE(objective->name);
    TrainingSpec forward = forward_spec(4, 2), whole = local_spec(kBackprop, 4);
    for (TrainingSpec* spec : {&forward, &whole}) set_objective(*spec, *objective);
    const Numbers begin = values_after(forward, 0, 0), moved = after_a_step(forward, 0.1),
                  expected = after_a_step(whole, 0.1, begin);
    EXPECT_EQ(moved.at("model.norm.weight"), expected.at("model.norm.weight"));
    EXPECT_NE(moved.at("model.norm.weight"), begin.at("model.norm.weight"));
    EXPECT_NE(moved.at("model.layers.0.mlp.up_proj.weight"), begin.at("model.layers.0.mlp.up_proj.weight"));
  }
}

// The text is data: its embedding learns as the head, where it is that, and else not at all.
TEST(ForwardForward, the_embedded_text_is_a_number) {
  TrainingSpec spec = forward_spec(4, 2);
  spec.architecture.tied = false;
  spec.stored = [](const std::string&) { return &kF32; };
  const Numbers begin = values_after(spec, 0, 0), end = after_a_step(spec, 0.1);
  ASSERT_TRUE(end.contains("model.embed_tokens.weight"));
  EXPECT_EQ(end.at("model.embed_tokens.weight"), begin.at("model.embed_tokens.weight"));
  EXPECT_NE(end.at("lm_head.weight"), begin.at("lm_head.weight"));
}

// A module hears nothing of those behind it, unless they collaborate.
TEST(ForwardForward, nothing_passes_between_modules) {
  for (const bool collaborates : {false, true}) {
    const TrainingSpec spec = forward_spec(4, 2, collaborates);
    Numbers begin = values_after(spec, 0, 0);
    const Numbers before = after_a_step(spec, 0.1, begin);
    for (float& x : begin.at("model.layers.3.mlp.down_proj.weight")) x *= 4;
    size_t moved = 0;
    for (const auto& [name, numbers] : after_a_step(spec, 0.1, begin))
      if (of_blocks(name, 0, 1)) moved += numbers != before.at(name);
    EXPECT_EQ(moved > 0, collaborates);
  }
}

// With a first module that adds nothing, the goodness of the second is all that either is told of.
TEST(ForwardForward, collaborating_modules_add_the_goodness_of_the_others) {
  const TrainingSpec together = forward_spec(4, 2, true);
  Numbers begin = values_after(together, 0, 0);
  for (auto& [name, numbers] : begin)
    if (of_blocks(name, 0, 1) && (name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight")))
      std::ranges::fill(numbers, 0.0f);
  const Numbers alone = after_a_step(forward_spec(4, 2), 0, begin), both = after_a_step(together, 0, begin);
  const std::vector<float>& second = alone.at("train.nll.module_2");
  EXPECT_NE(alone.at("train.nll.module_1"), second);
  for (size_t i = 0; i < second.size(); ++i) {
    EXPECT_NEAR(both.at("train.nll.module_1")[i], second[i], 1e-7);
    EXPECT_NEAR(both.at("train.nll.module_2")[i], second[i], 1e-7);
  }
}

// A model that is four times as deep keeps no more.
TEST(ForwardForward, keeps_the_activations_of_one_module) {
  for (const bool collaborates : {false, true}) {
    SCOPED_TRACE(collaborates);
    int64_t kept[2], transient[2];
    for (const int64_t layers : {4, 16}) {
      const auto plan = plan_training(forward_spec(layers, static_cast<double>(layers) / 2, collaborates), Machine{});
      ASSERT_TRUE(plan) << plan.error().message;
      EXPECT_EQ(turns(plan->train.graph, plan->pass).size(), static_cast<size_t>(layers / 2 + 1));
      kept[layers == 16] = kept_bytes(*plan), transient[layers == 16] = plan->transient_bytes;
    }
    // Beside the square of each gradient's norm, a number in 64 bytes, and two goodnesses of each module and row.
    const int64_t more = 64 * 12 * 9 + (collaborates ? 6 * 2 * 4 * 128 : 0);
    EXPECT_LE(kept[1] - kept[0], more);
    EXPECT_LE(transient[1] - transient[0], more);
  }
}

TEST(ForwardForward, has_the_same_bits_at_every_budget) {
  for (const bool collaborates : {false, true}) {
    SCOPED_TRACE(collaborates);
    TrainingSpec spec = forward_spec(4, 2, collaborates);
    spec.set_optimizer({&kAdamw, {}});
    spec.clip = collaborates ? 1 : 0, spec.activation = &kBf16, spec.batch = 16;
    if (collaborates) spec.keepers = *keepers_named("few_bit,mesa");
    expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
  }
}

TEST(ForwardForward, refuses_what_it_is_not_for) {
  const auto error = [](const TrainingSpec& spec) {
    const auto plan = plan_training(spec, Machine{});
    EXPECT_FALSE(plan);
    return plan ? "" : plan.error().message;
  };
  EXPECT_THAT(error(forward_spec(4, 5)), HasSubstr("the model has 4 blocks"));
  EXPECT_THAT(error(local_spec(kForwardForward, 4, {}, kLora)), HasSubstr("take --method full"));
  EXPECT_THAT(error(local_spec(kForwardForward, 4, {}, kPromptTuning)), HasSubstr("--method prompt_tuning"));
}

}  // namespace
}  // namespace thimble
