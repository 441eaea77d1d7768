// Training of a small model made on the spot, from a recipe.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "files/safetensors.h"
#include "run/arena.h"
#include "run/trainer.h"
#include "text/small_tokenizer.h"
#include "whole.h"

namespace thimble {

// Chats of very different lengths, so that micro-batches hold different numbers of trained tokens.
inline std::string small_chats() {
  std::string out;
  for (int i = 0; i < 24; ++i) {
    const std::string words(static_cast<size_t>(3 + i * 7 % 31), static_cast<char>('a' + i % 26));
    out +=
        fmt::format(R"({{"messages":[{{"content":"say {0}","role":"user"}},{{"content":"{0}","role":"assistant"}}]}})",
                    words) +
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
    recipe_.threads = test_threads();
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

  // Tokens a pass, of the plan within `memory`.
  int64_t rows_within(int64_t memory) {
    Recipe recipe = recipe_;
    recipe.memory = memory;
    forget_peak();
    Events events(true);
    const auto trainer = Trainer::prepare(recipe, events);
    EXPECT_TRUE(trainer) << trainer.error().message;
    return trainer ? (*trainer)->plan().rows : 0;
  }
  // A run that is interrupted after `done` steps and resumed has the losses and numbers of one that is not, whose
  // losses are returned; `between` sees the recipe that resumes.
  std::vector<double> expect_resumes_exactly(Recipe recipe, const std::string& name, int64_t done, int64_t steps,
                                             const std::function<void(Recipe)>& between = nullptr) {
    recipe.steps = steps;
    const std::vector<double> expected = losses(recipe, name);
    EXPECT_EQ(std::ssize(expected), steps);
    if (std::ssize(expected) != steps) return expected;
    recipe.steps = done;
    losses(recipe, name + "-part");
    recipe.steps = steps, recipe.resume = true;
    if (between) between(recipe);
    EXPECT_EQ(losses(recipe, name + "-part"), std::vector(expected.begin() + done, expected.end()));
    EXPECT_EQ(parameters(name + "-part"), parameters(name));
    return expected;
  }

  // The peak of the runs before does not count.
  static void forget_peak() { forget_peak_resident(); }

  // The budget that the refusal of a smaller one names.
  int64_t smallest_memory() {
    forget_peak();
    Recipe recipe = recipe_;
    recipe.memory = 1;
    Events events(true);
    const auto refused = Trainer::prepare(recipe, events);
    EXPECT_FALSE(refused);
    return refused ? 0 : refused.error().least_bytes + 1'000'000;
  }

  std::vector<float> parameters(const std::string& out) {
    auto file = SafetensorsFile::open(folder_.path() + "/" + out + "/checkpoint.safetensors");
    EXPECT_TRUE(file) << file.error().message;
    // The order of values in the file is that of their updates, which depends on the plan.
    std::vector<SafetensorsEntry> entries(file->entries().begin(), file->entries().end());
    std::ranges::sort(entries, {}, &SafetensorsEntry::name);
    std::vector<float> all;
    for (const SafetensorsEntry& entry : entries) {
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

}  // namespace thimble
