// Selectors in runs: resumed in mid-schedule, chosen from the data once, what is frozen saved as it was.
#include <gmock/gmock.h>

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
