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

  // Stops a run after so many steps, as Ctrl-C does.
  void interrupt(Recipe recipe, const std::string& out, int64_t after) {
    recipe.out = folder_.path() + "/" + out;
    Events events(true);
    bool stop = false;
    events.on_step([&](const StepEvent& step) { stop = step.step == after; });
    auto trainer = Trainer::prepare(recipe, events);
    ASSERT_TRUE(trainer) << trainer.error().message;
    (*trainer)->stop_when([&] { return stop; });
    const auto stopped = (*trainer)->run();
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().code, ErrorCode::cancelled) << stopped.error().message;
  }

  std::string refusal(const Recipe& recipe) {
    Events events(true);
    const auto trainer = Trainer::prepare(recipe, events);
    return trainer ? "" : trainer.error().message;
  }
};

TEST_F(Preferences, begin_where_the_reference_is) {
  const double aim = 1 / (2 * 0.1);
  for (const auto& [name, loss] : {std::pair{"dpo", std::log(2.0)},
                                   {"hinge", 1.0},
                                   {"ipo", aim * aim},
                                   {"kto", 0.5},
                                   {"apo_zero_unpaired", 0.5}}) {
    recipe_.objective = name;
    const std::vector<StepEvent> taken = steps(recipe_, name);
    ASSERT_EQ(taken.size(), 4u);
    EXPECT_NEAR(taken.front().loss, loss, 1e-5 * loss) << name;
    EXPECT_LT(taken.back().loss, taken.front().loss) << name;
    EXPECT_GT(taken.back().rewards.mean_margin(), 0) << name;
    EXPECT_GT(taken.front().rewards.terms(), 0) << name;
  }
}

// The second run is asked for more steps than the first computed references for.
TEST_F(Preferences, resume_exactly) {
  for (const Objective* objective : objectives()) {
    if (objective->term != LossTerm::pair && objective->term != LossTerm::reply) continue;
    recipe_.objective = objective->name;
    expect_resumes_exactly(recipe_, recipe_.objective, 2, 4);
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

// What looks at the data before the first step compares with the model itself, which is the reference then: whatever is
// chosen, the run begins at the loss that an equal reference gives, and resumes exactly.
TEST_F(Preferences, what_is_chosen_by_the_data_is_chosen_before_there_is_a_reference) {
  Recipe base = recipe_;
  base.objective = "next_token", base.data = folder_.write("data.jsonl", small_chats()), base.steps = 1;
  losses(base, "base");
  recipe_.model = folder_.path() + "/base/model", recipe_.size = recipe_.tokenizer = "";
  const std::vector<std::tuple<const char*, const char*, std::vector<std::string>>> chosen{
      {"neuron_specialization", "all", {}},
      {"s2ft", "all", {"s2ft.numbers=2000"}},
      {"full", "sparse", {"select.bytes=200000"}},
      {"full", "surgical", {}}};
  for (const char* objective : {"dpo", "kto"})
    for (const auto& [method, select, set] : chosen) {
      SCOPED_TRACE(fmt::format("{} {} {}", objective, method, select));
      recipe_.objective = objective, recipe_.method = method, recipe_.select = select, recipe_.set = set;
      const std::string name = fmt::format("{}-{}-{}", objective, method, select);
      const std::vector<double> taken = losses(recipe_, name);
      ASSERT_EQ(taken.size(), 4u);
      interrupt(recipe_, name + "-part", 2);
      Recipe rest = recipe_;
      rest.resume = true;
      EXPECT_EQ(losses(rest, name + "-part"), std::vector(taken.begin() + 2, taken.end()));
      EXPECT_EQ(parameters(name + "-part"), parameters(name));
      EXPECT_NEAR(taken.front(), std::string_view(objective) == "dpo" ? std::log(2.0) : 0.5, 1e-5);
    }
}

// A judged reply a line; without the replies to other prompts that are estimated with, all are of one kind.
std::string judged(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    const std::string words(static_cast<size_t>(2 + i * 5 % 11), static_cast<char>('a' + i % 26));
    out +=
        nlohmann::json{{"prompt", "say " + words}, {"completion", i % 3 ? words : "no"}, {"label", i % 3 != 0}}.dump();
    out += "\n";
  }
  return out;
}

// How far a model has gone is measured before the passes of a step: it is the same however the step is cut.
TEST_F(Preferences, drift_is_of_the_whole_step) {
  recipe_.objective = "kto", recipe_.data = folder_.write("judged.jsonl", judged(40)), recipe_.no_shuffle = true;
  recipe_.context = 64, recipe_.batch = 16, recipe_.set = {"objective.beta=1"};
  const std::vector<StepEvent> whole = steps(recipe_, "whole");
  EXPECT_NEAR(whole.front().rewards.drift, 0, 1e-5);
  EXPECT_GT(whole.back().rewards.drift, 0) << "the test has to drift";
  recipe_.batch = 2, recipe_.accumulate = 8;
  const std::vector<StepEvent> cut = steps(recipe_, "cut");
  ASSERT_EQ(cut.size(), whole.size());
  for (size_t i = 0; i < cut.size(); ++i) {
    EXPECT_EQ(cut[i].rewards.terms(), whole[i].rewards.terms());
    EXPECT_NEAR(cut[i].rewards.drift, whole[i].rewards.drift, 1e-4) << i;
    EXPECT_NEAR(cut[i].loss, whole[i].loss, 1e-5) << i;
  }
}

TEST_F(Preferences, drift_is_the_same_at_every_budget) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory grows from run to run, so that no budget of the process is tight";
#endif
  recipe_.objective = "kto", recipe_.data = folder_.write("judged.jsonl", judged(600));
  recipe_.context = 256, recipe_.batch = 32, recipe_.steps = 3, recipe_.eval_data = recipe_.data;
  const std::vector<StepEvent> plenty = steps(recipe_, "plenty");
  EXPECT_GT(plenty.back().rewards.drift, 0);
  recipe_.memory = smallest_memory();
  EXPECT_LT(rows_within(recipe_.memory), rows_within(500'000'000))
      << "both cut the batch alike: the test shows nothing";
  forget_peak();
  const std::vector<StepEvent> little = steps(recipe_, "little");
  ASSERT_EQ(little.size(), plenty.size());
  for (size_t i = 0; i < plenty.size(); ++i) {
    EXPECT_EQ(little[i].loss, plenty[i].loss) << i;
    EXPECT_EQ(little[i].rewards.drift, plenty[i].rewards.drift) << i;
  }
  EXPECT_EQ(parameters("little"), parameters("plenty"));
}

TEST_F(Preferences, refuse_what_is_no_judged_reply) {
  recipe_.objective = "kto";
  recipe_.data = folder_.write("none.jsonl", R"({"prompt": "a", "completion": "b"})"
                                             "\n");
  EXPECT_THAT(refusal(recipe_), HasSubstr("'label' is missing"));
  recipe_.data = folder_.write("maybe.jsonl", R"({"prompt": "a", "completion": "b", "label": 0.5})"
                                              "\n");
  EXPECT_THAT(refusal(recipe_), HasSubstr("true or false"));
  recipe_.data = folder_.write("text.jsonl", R"({"text": "a", "label": true})"
                                             "\n");
  EXPECT_THAT(refusal(recipe_), HasSubstr("no reply to judge"));
  recipe_.data = folder_.write("one.jsonl", judged(1));
  EXPECT_THAT(refusal(recipe_), HasSubstr("more than 1"));
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
