// Steps of full f32 fine-tuning of SmolLM2 against PyTorch (models/smollm2/smollm2_train_golden.py made train.json, 20
// steps; the first three are always run).
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "run/trainer.h"
#include "shared_data.h"
#include "temporary_folder.h"
#include "whole.h"

namespace thimble {
namespace {

TEST(GoldenTraining, losses_and_norms_equal_pytorch) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(text, "wikitext2/valid.txt");
  NEED_SHARED_DATA(golden, "models/smollm2/train.json");
  const TemporaryFolder folder;
  const int64_t count = whole_tests() ? 20 : 3;
  const Recipe recipe{.model = model,
                      .data = text,
                      .out = folder.path(),
                      .method = "full",
                      .schedule = "constant",
                      .precision = "f32",
                      .batch = 2,
                      .context = 256,
                      .steps = count,
                      .lr = 1e-4,
                      .warmup = 0,
                      .weight_decay = 0.01,
                      .clip = 1,
                      .no_shuffle = true};
  Events events(true);
  std::vector<StepEvent> steps;
  events.on_step([&](const StepEvent& step) { steps.push_back(step); });
  auto trainer = Trainer::prepare(recipe, events);
  ASSERT_TRUE(trainer) << trainer.error().message;
  const auto done = (*trainer)->run();
  ASSERT_TRUE(done) << done.error().message;
  const auto expected = nlohmann::json::parse(std::ifstream(golden)).at("steps");
  ASSERT_EQ(std::ssize(steps), count);
  for (size_t i = 0; i < steps.size(); ++i) {
    const double loss = expected[i].at("loss"), norm = expected[i].at("grad_norm");
    EXPECT_NEAR(steps[i].loss, loss, 1e-5 * loss) << "step " << i;
    EXPECT_NEAR(steps[i].grad_norm, norm, 1e-4 * norm) << "step " << i;
  }
}

}  // namespace
}  // namespace thimble
