// The library as a user's program sees it, and the example built of it.
#include <gtest/gtest.h>

#include <cmath>

#include "commands/program.h"
#include "commands/tiny_files.h"
#include "thimble/thimble.h"

namespace thimble {
namespace {

class Library : public testing::Test {
 protected:
  Library() {
    std::string chats;
    for (int i = 0; i < 12; ++i)
      chats += R"({"messages":[{"role":"user","content":"say )" + std::to_string(i) +
               R"("},{"role":"assistant","content":"ab)" + std::to_string(i) + "\"}]}\n";
    recipe_.model = tiny_.gguf;
    recipe_.data = tiny_.folder.write("chats.jsonl", chats);
    recipe_.out = tiny_.folder.file("run");
    recipe_.context = 128;
    recipe_.steps = 4;
    recipe_.threads = 2;
    recipe_.rank = 2;
    recipe_.scratch = "none";
  }

  // Losses of a run that is stopped after `most` steps.
  std::vector<double> train(const Recipe& recipe, int64_t most, ErrorCode* ended = nullptr) {
    auto training = FineTuning::plan(recipe);
    EXPECT_TRUE(training) << training.error().message;
    if (!training) return {};
    EXPECT_GT(training->ledger().planned_bytes, 0);
    EXPECT_FALSE(training->notes().empty());  // how many examples there are, and what else is worth knowing
    std::vector<double> losses;
    const auto done = training->run([&](const StepEvent& step) {
      losses.push_back(step.loss);
      return step.step < most;
    });
    if (!done && ended) *ended = done.error().code;
    EXPECT_TRUE(done || ended) << done.error().message;
    return losses;
  }

  TinyFiles tiny_;
  Recipe recipe_;
};

TEST_F(Library, a_run_can_be_stopped_and_gone_on_with) {
  const std::vector<double> whole = train(recipe_, 100);
  ASSERT_EQ(whole.size(), 4u);
  recipe_.out = tiny_.folder.file("stopped");
  ErrorCode ended = ErrorCode::io;
  std::vector<double> parts = train(recipe_, 2, &ended);
  EXPECT_EQ(ended, ErrorCode::cancelled);
  recipe_.resume = true;
  for (double loss : train(recipe_, 100)) parts.push_back(loss);
  EXPECT_EQ(parts, whole);
}

TEST_F(Library, a_budget_that_is_too_small_is_refused_before_anything_runs) {
  recipe_.memory = 1'000'000;
  const auto training = FineTuning::plan(recipe_);
  ASSERT_FALSE(training);
  EXPECT_EQ(training.error().code, ErrorCode::over_budget);
  EXPECT_FALSE(std::filesystem::exists(recipe_.out));
}

TEST_F(Library, a_trained_model_speaks_and_is_measured) {
  train(recipe_, 100);
  const InferenceOptions options{.model = tiny_.gguf, .adapter = recipe_.out + "/adapter", .threads = 2};
  auto model = Model::open(options, 128);
  ASSERT_TRUE(model) << model.error().message;
  std::string said;
  const auto first = model->generate({.text = "say 3", .chat = true}, 8, [&](std::string_view text) { said += text; });
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(*first, said);
  ASSERT_TRUE(model->generate({.text = "another"}, 8));
  EXPECT_EQ(*model->generate({.text = "say 3", .chat = true}, 8), *first);  // nothing is left of what was said between
  EXPECT_FALSE(model->generate({.text = ""}, 8));

  const auto score = evaluate(options, recipe_.data, 128);
  ASSERT_TRUE(score) << score.error().message;
  EXPECT_GT(score->tokens, 12 * 3);
  EXPECT_TRUE(std::isfinite(score->mean()));
  EXPECT_LT(score->mean(), evaluate({.model = tiny_.gguf, .threads = 2}, recipe_.data, 128)->mean());
}

TEST_F(Library, the_example_runs) {
  const Ran ran = run_thimble({tiny_.gguf, recipe_.data, recipe_.out, "2"});  // THIMBLE_PROGRAM is the example
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_NE(ran.out.find("planned peak"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("step 2  loss "), std::string::npos) << ran.out;
}

}  // namespace
}  // namespace thimble
