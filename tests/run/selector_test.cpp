// Selectors in runs: resumed in mid-schedule, chosen from the data once, what is frozen saved as it was.
#include <gmock/gmock.h>

#include "run/sealed_checkpoint.h"
#include "run/small_training.h"

namespace thimble {
namespace {

using testing::HasSubstr;

class SelectorRun : public SmallTraining {
 protected:
  std::vector<float> exported(const std::string& out, const std::string& tensor) {
    const auto file = SafetensorsFile::open(folder_.path() + "/" + out + "/model/model.safetensors");
    EXPECT_TRUE(file) << file.error().message;
    const SafetensorsEntry* const entry = file->find(tensor);
    EXPECT_TRUE(entry) << tensor;
    std::vector<float> values(entry ? entry->bytes / 4 : 0);
    if (entry) EXPECT_TRUE(file->file().read(entry->offset, std::as_writable_bytes(std::span(values))));
    return values;
  }
  // Six steps at once, and three and then the rest: the same losses and numbers.
  void expect_exact_resume(const Recipe& recipe) {
    Recipe whole = recipe, part = recipe, rest = recipe;
    whole.steps = 6, part.steps = 3, rest.steps = 6, rest.resume = true;
    const std::vector<double> straight = losses(whole, "whole");
    losses(part, "part");
    const std::vector<double> resumed = losses(rest, "part");
    ASSERT_EQ(straight.size(), 6U);
    ASSERT_EQ(resumed.size(), 3U);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(resumed[i], straight[3 + i]) << "step " << 4 + i;
    EXPECT_EQ(parameters("whole"), parameters("part"));
  }
};

// Three steps end in the middle of a period of two.
TEST_F(SelectorRun, lisa_resumes_in_mid_period) {
  recipe_.select = "lisa";
  recipe_.set = {"lisa.layers=1", "lisa.period=2"};
  recipe_.batch = 2;
  expect_exact_resume(recipe_);
  recipe_.optimizer = "galore,lookahead";
  recipe_.set.emplace_back("galore.rank=8");
  expect_exact_resume(recipe_);
}

class IstRun : public SelectorRun {
 protected:
  void SetUp() override {
    SelectorRun::SetUp();
    losses(recipe_, "base");
    recipe_.size = recipe_.tokenizer = "", recipe_.model = folder_.path() + "/base/model";
    recipe_.select = "ist", recipe_.method = "lora", recipe_.batch = 2, recipe_.accumulate = 2;
    recipe_.set = {"ist.period=2"};
  }
  // Losses that importance was learnt from (or the importance of layers), by period.
  std::vector<std::vector<double>> probed(const std::string& out, const char* what = "losses") {
    std::vector<std::vector<double>> all;
    std::ifstream log(folder_.path() + "/" + out + "/events.jsonl");
    for (std::string line; std::getline(log, line);)
      if (const auto event = nlohmann::json::parse(line, nullptr, false);
          event.is_object() && event.value("event", "") == "importance")
        all.push_back(event[what].get<std::vector<double>>());
    return all;
  }
};

// Three steps end in the middle of a period, four at the end of one.
TEST_F(IstRun, resumes_exactly) {
  expect_exact_resume(recipe_);
  const std::vector<double> straight = expect_resumes_exactly(recipe_, "at an end", 4, 7);
  EXPECT_EQ(probed("at an end").size(), 3U);
  EXPECT_EQ(probed("at an end-part"), probed("at an end"));
  EXPECT_NE(straight.front(), straight.back());
}

// Where all layers are suppressed to nothing, the loss is that of the model without its adapters, on the tokens that
// the next step trains on; where none is scaled, that of the step itself.
TEST_F(IstRun, losses_are_of_the_next_tokens_with_adapters_scaled_down) {
  recipe_.steps = 3, recipe_.lr = 3e-2;
  Recipe still = recipe_;
  still.lr = 1e-30;
  const std::vector<double> base = losses(still, "still");
  const size_t layers = probed("still", "layers").at(0).size();
  recipe_.set = {"ist.period=2", fmt::format("ist.suppressed={}", layers), "ist.halvings=30"};
  const std::vector<double> trained = losses(recipe_, "trained");
  const auto nothing = probed("trained");
  ASSERT_EQ(nothing.size(), 1U);
  EXPECT_GT(std::abs(trained[2] - base[2]), 1e-3) << "adapters have to matter by then";
  for (const double loss : nothing[0]) EXPECT_NEAR(loss, base[2], 1e-6);
  recipe_.set[2] = "ist.halvings=1";
  losses(recipe_, "half");
  const auto half = probed("half");
  for (const double loss : half.at(0)) {
    EXPECT_GT(std::abs(loss - base[2]), 1e-4);
    EXPECT_GT(std::abs(loss - trained[2]), 1e-4);
  }
}

// Tokens a pass, and what waits on disk, change no bit of what is learnt.
TEST_F(IstRun, learns_the_same_within_any_budget) {
  recipe_.steps = 5;
  const std::vector<double> plenty = losses(recipe_, "plenty");
  recipe_.memory = smallest_memory();
  EXPECT_EQ(losses(recipe_, "least"), plenty);
  EXPECT_EQ(probed("least"), probed("plenty"));
  EXPECT_EQ(parameters("least"), parameters("plenty"));
}

TEST_F(IstRun, a_checkpoint_with_the_importance_of_another_period_is_refused) {
  recipe_.steps = 3;
  losses(recipe_, "damaged");
  recipe_.out = folder_.path() + "/damaged";
  const std::string path = recipe_.out + "/checkpoint.safetensors";
  std::string text = file_bytes(path);
  const std::string period = R"(\"period\":1)";
  const size_t at = text.find(period);
  ASSERT_NE(at, std::string::npos);
  write_sealed(path, text.replace(at, period.size(), R"(\"period\":7)"));
  recipe_.steps = 5, recipe_.resume = true;
  Events events(true);
  const auto trainer = Trainer::prepare(recipe_, events);
  ASSERT_TRUE(trainer) << trainer.error().message;
  const auto refused = (*trainer)->run();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::corrupt);
  EXPECT_THAT(refused.error().message, HasSubstr("how important --select ist"));
}

TEST_F(SelectorRun, what_was_chosen_from_the_data_is_kept) {
  for (const char* select : {"sparse", "surgical"}) {
    SCOPED_TRACE(select);
    recipe_.select = select;
    recipe_.set = {recipe_.select == "sparse" ? "select.bytes=200000" : "select.layers=1", "select.batches=2"};
    expect_exact_resume(recipe_);
    // The seed draws the windows: another may choose otherwise, the same may not.
    EXPECT_EQ(losses(recipe_, "again"), losses(recipe_, "once more"));
  }
}

TEST_F(SelectorRun, frozen_layers_are_saved_as_they_were) {
  recipe_.select = "last_layers";
  recipe_.set = {"last_layers.layers=1"};
  losses(recipe_, "one");
  recipe_.steps = 4;
  losses(recipe_, "four");
  const std::string last = fmt::format("model.layers.{}.mlp.up_proj.weight", [&] {
    const auto file = SafetensorsFile::open(folder_.path() + "/one/model/model.safetensors");
    int layer = 0;
    while (file->find(fmt::format("model.layers.{}.mlp.up_proj.weight", layer + 1))) ++layer;
    return layer;
  }());
  EXPECT_EQ(exported("one", "model.embed_tokens.weight"), exported("four", "model.embed_tokens.weight"));
  EXPECT_EQ(exported("one", "model.layers.0.mlp.up_proj.weight"),
            exported("four", "model.layers.0.mlp.up_proj.weight"));
  EXPECT_NE(exported("one", last), exported("four", last));
}

TEST_F(SelectorRun, names_that_are_not_there_are_refused) {
  Events events(true);
  recipe_.out = folder_.path() + "/refused";
  recipe_.select = "lsia";
  EXPECT_THAT(Trainer::prepare(recipe_, events).error().message, HasSubstr("lisa"));
  recipe_.select = "sparse";
  EXPECT_THAT(Trainer::prepare(recipe_, events).error().message, HasSubstr("select.bytes="));
}

}  // namespace
}  // namespace thimble
