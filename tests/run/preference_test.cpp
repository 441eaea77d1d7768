// Training on preference pairs: what is counted, that it resumes exactly, and what is refused.
#include <gmock/gmock.h>

#include <cmath>

#include "run/small_training.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

std::string small_pairs(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    const std::string words(static_cast<size_t>(2 + i * 5 % 11), static_cast<char>('a' + i % 26));
    out += nlohmann::json{{"prompt", "say " + words}, {"chosen", words}, {"rejected", "no"}}.dump() + "\n";
  }
  return out;
}

class Preferences : public SmallTraining {
 protected:
  void SetUp() override {
    SmallTraining::SetUp();
    recipe_.data = folder_.write("pairs.jsonl", small_pairs(20));
    recipe_.objective = "dpo";
    recipe_.lr = 1e-3;
    recipe_.steps = 4;
  }

  std::vector<StepEvent> steps(Recipe recipe, const std::string& out) {
    recipe.out = folder_.path() + "/" + out;
    Events events(true);
    std::vector<StepEvent> steps;
    events.on_step([&](const StepEvent& step) { steps.push_back(step); });
    auto trainer = Trainer::prepare(recipe, events);
    EXPECT_TRUE(trainer) << trainer.error().message;
    if (!trainer) return {};
    const auto done = (*trainer)->run();
    EXPECT_TRUE(done) << done.error().message;
    return steps;
  }

  std::string refusal(const Recipe& recipe) {
    Events events(true);
    const auto trainer = Trainer::prepare(recipe, events);
    return trainer ? "" : trainer.error().message;
  }
};

TEST_F(Preferences, begin_where_the_reference_is) {
  const double aim = 1 / (2 * 0.1);
  for (const auto& [name, loss] : {std::pair{"dpo", std::log(2.0)}, {"hinge", 1.0}, {"ipo", aim * aim}}) {
    recipe_.objective = name;
    const std::vector<StepEvent> taken = steps(recipe_, name);
    ASSERT_EQ(taken.size(), 4u);
    EXPECT_NEAR(taken.front().loss, loss, 1e-5 * loss) << name;
    EXPECT_LT(taken.back().loss, taken.front().loss) << name;
    EXPECT_GT(taken.back().rewards.mean_margin(), 0) << name;
    EXPECT_GT(taken.front().rewards.pairs, 0) << name;
  }
}

// The second run is asked for more steps than the first computed references for.
TEST_F(Preferences, resume_exactly) {
  for (const Objective* objective : objectives()) {
    if (!objective->of_pairs()) continue;
    recipe_.objective = objective->name;
    const std::string whole = std::string(objective->name) + "_whole", parts = std::string(objective->name) + "_parts";
    const std::vector<StepEvent> all = steps(recipe_, whole);
    Recipe part = recipe_;
    part.steps = 2;
    steps(part, parts);
    part.steps = 4, part.resume = true;
    const std::vector<StepEvent> rest = steps(part, parts);
    ASSERT_EQ(rest.size(), 2u);
    for (size_t i = 0; i < 2; ++i) EXPECT_EQ(rest[i].loss, all[i + 2].loss) << whole;
    EXPECT_EQ(parameters(parts), parameters(whole)) << whole;
  }
}

// The loss is the mean over pairs, not over tokens: of one pair it is the same beside any other.
TEST_F(Preferences, count_pairs) {
  recipe_.objective = "simpo", recipe_.steps = 1, recipe_.no_shuffle = true;
  const auto loss_of = [&](const std::string& pairs) {
    recipe_.data = folder_.write("some.jsonl", pairs);
    return steps(recipe_, "some").front();
  };
  const std::string all = small_pairs(2), first = all.substr(0, all.find('\n') + 1), second = all.substr(first.size());
  const StepEvent both = loss_of(all), one = loss_of(first), other = loss_of(second);
  EXPECT_EQ(both.rewards.pairs, 2);
  EXPECT_EQ(one.rewards.pairs, 1);
  EXPECT_NEAR(both.loss, (one.loss + other.loss) / 2, 1e-6);
}

TEST_F(Preferences, refuse_what_is_no_pair) {
  recipe_.data = folder_.write("text.txt", "nothing but a text");
  EXPECT_THAT(refusal(recipe_), HasSubstr("preference pairs"));
  recipe_.data = folder_.write("one.jsonl", R"({"prompt": "a", "completion": "b"})"
                                            "\n");
  EXPECT_THAT(refusal(recipe_), HasSubstr("no preference pair"));
  recipe_.data = folder_.write("pairs.jsonl", small_pairs(4));
  recipe_.truncate = "split";
  EXPECT_THAT(refusal(recipe_), HasSubstr("--truncate split"));
  recipe_.truncate.clear(), recipe_.set = {"objective.betta=1"};
  EXPECT_THAT(refusal(recipe_), HasSubstr("beta"));
}

}  // namespace
}  // namespace thimble
