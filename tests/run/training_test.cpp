// Training on a small model made on the spot: accumulation, resuming, early updates, bits.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "files/safetensors.h"
#include "run/trainer.h"
#include "text/small_tokenizer.h"

namespace thimble {
namespace {

// Chats of very different lengths, so that micro-batches hold different numbers of trained tokens.
std::string small_chats() {
  std::string out;
  for (int i = 0; i < 24; ++i) {
    const std::string words(static_cast<size_t>(3 + i * 7 % 31), static_cast<char>('a' + i % 26));
    out +=
        nlohmann::json{{"messages",
                        {{{"role", "user"}, {"content", "say " + words}}, {{"role", "assistant"}, {"content", words}}}}}
            .dump() +
        "\n";
  }
  return out;
}

class SmallTraining : public testing::Test {
 protected:
  void SetUp() override {
    small_byte_bpe(folder_, kChatMl);
    recipe_.size = "100K";
    recipe_.tokenizer = folder_.path() + "/tokenizer.json";
    recipe_.data = folder_.write("data.jsonl", small_chats());
    recipe_.method = "full";
    recipe_.precision = "f32";
    recipe_.context = 96;
    recipe_.steps = 1;
    recipe_.threads = 2;
    recipe_.lr = 1e-2;
    recipe_.schedule = "constant";
    recipe_.warmup = 0;
  }

  std::vector<double> losses(Recipe recipe, const std::string& out) {
    recipe.out = folder_.path() + "/" + out;
    Events events(true);
    std::vector<double> losses;
    events.on_step([&](const StepEvent& step) { losses.push_back(step.loss); });
    auto trainer = Trainer::prepare(recipe, events);
    EXPECT_TRUE(trainer) << trainer.error().message;
    if (!trainer) return {};
    const auto done = (*trainer)->run();
    EXPECT_TRUE(done) << done.error().message;
    return losses;
  }

  std::vector<float> parameters(const std::string& out) {
    auto file = SafetensorsFile::open(folder_.path() + "/" + out + "/checkpoint.safetensors");
    EXPECT_TRUE(file) << file.error().message;
    std::vector<float> all;
    for (const SafetensorsEntry& entry : file->entries()) {
      if (!entry.name.starts_with("model.")) continue;
      std::vector<float> values(entry.bytes / 4);
      EXPECT_TRUE(file->file().read(entry.offset, std::as_writable_bytes(std::span(values))));
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }

  TemporaryFolder folder_;
  Recipe recipe_;
};

// One step of SGD moves the weights by the gradient: it must not depend on how the batch is cut.
TEST_F(SmallTraining, accumulation_is_exact_in_tokens) {
  recipe_.optimizer = "sgd";
  recipe_.clip = 0;
  recipe_.lr = 1;
  recipe_.no_shuffle = true;
  std::vector<float> whole;
  for (int64_t parts : {1, 2, 4, 8}) {
    recipe_.batch = 8 / parts, recipe_.accumulate = parts;
    losses(recipe_, "parts" + std::to_string(parts));
    const std::vector<float> now = parameters("parts" + std::to_string(parts));
    if (whole.empty()) whole = now;
    ASSERT_EQ(now.size(), whole.size());
    double difference = 0, size = 0;
    for (size_t i = 0; i < now.size(); ++i) difference += std::pow(now[i] - whole[i], 2), size += std::pow(whole[i], 2);
    EXPECT_LE(std::sqrt(difference), 1e-5 * std::sqrt(size)) << parts << " micro-batches";
  }
}

// A run that was stopped and resumed gives the bits of one that was not, with shuffling and states.
TEST_F(SmallTraining, resume_is_exact) {
  recipe_.steps = 6;
  recipe_.batch = 2;
  const std::vector<double> straight = losses(recipe_, "straight");
  Recipe early = recipe_;
  early.steps = 3;
  losses(early, "early");
  Recipe resumed = recipe_;
  resumed.resume = true;
  const std::vector<double> rest = losses(resumed, "early");
  ASSERT_EQ(rest.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(rest[i], straight[3 + i]) << "step " << 4 + i;
}

// Without clipping a gradient is consumed as soon as it exists; the bits are those of the run that holds all of them.
TEST_F(SmallTraining, early_update_gives_the_same_bits) {
  recipe_.steps = 4;
  recipe_.batch = 2;
  recipe_.clip = 0;
  const std::vector<double> early = losses(recipe_, "early_update");
  recipe_.clip = 1e9;  // a barrier that never clips
  const std::vector<double> held = losses(recipe_, "held");
  EXPECT_EQ(early, held);
}

TEST_F(SmallTraining, threads_do_not_change_bits) {
  recipe_.steps = 3;
  recipe_.batch = 2;
  recipe_.precision = "bf16";
  recipe_.multiply = "f32";
  const std::vector<double> two = losses(recipe_, "two");
  recipe_.threads = 1;
  EXPECT_EQ(losses(recipe_, "one"), two);
  recipe_.threads = 3;
  EXPECT_EQ(losses(recipe_, "three"), two);
}

TEST_F(SmallTraining, every_optimizer_lowers_the_loss) {
  recipe_.steps = 12;
  recipe_.batch = 4;
  for (const Optimizer* optimizer : optimizers()) {
    recipe_.optimizer = optimizer->name;
    recipe_.lr = optimizer == &kSgd ? 0.5 : optimizer == &kLion ? 4e-3 : 1e-2;
    const std::vector<double> l = losses(recipe_, std::string(optimizer->name));
    ASSERT_EQ(l.size(), 12u);
    EXPECT_LT(l.back(), l.front() * 0.9) << optimizer->name;
  }
}

TEST_F(SmallTraining, a_budget_that_is_too_small_is_refused) {
  recipe_.memory = 1'000'000;
  recipe_.out = folder_.path() + "/refused";
  Events events(true);
  const auto trainer = Trainer::prepare(recipe_, events);
  ASSERT_FALSE(trainer);
  EXPECT_EQ(trainer.error().code, ErrorCode::over_budget);
  EXPECT_NE(trainer.error().message.find("smallest budget"), std::string::npos) << trainer.error().message;
}

}  // namespace
}  // namespace thimble
