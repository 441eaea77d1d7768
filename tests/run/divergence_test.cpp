// Losses and gradients that run away.
#include "run/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <set>

#include "report/run_log.h"
#include "run/small_training.h"

namespace thimble {
namespace {

using testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();

TEST(DivergenceWatch, finite_is_the_least) {
  const DivergenceWatch watch;
  EXPECT_EQ(watch.look(3, 1), "");
  EXPECT_EQ(watch.look(kNan, 1), "the loss, nan, is not finite");
  EXPECT_EQ(watch.look(3, kInfinity), "the gradient's norm, inf, is not finite");
}

TEST(DivergenceWatch, a_thousand_times_the_median_is_too_much) {
  DivergenceWatch watch;
  for (int i = 0; i < RunningMedian::kLeast - 1; ++i) watch.add(2, 0.5);
  EXPECT_EQ(watch.look(3000, 1), "") << "of too few values";
  watch.add(2, 0.5);
  EXPECT_EQ(watch.look(1999, 499), "");
  EXPECT_EQ(watch.look(2100, 1), "the loss, 2100, is 1050 times its running median");
  EXPECT_THAT(watch.look(2, 600), HasSubstr("the gradient's norm, 600, is 1200 times"));
}

// What was learnt by heart has almost no loss; a new epoch, or another file, has an ordinary one.
TEST(DivergenceWatch, an_ordinary_loss_after_almost_none_is_no_alarm) {
  DivergenceWatch watch;
  for (int i = 0; i < 40; ++i) watch.add(3, 1);
  for (int i = 0; i < 40; ++i) watch.add(1e-5, 1e-6);
  EXPECT_EQ(watch.look(2.9, 0.9), "");
  EXPECT_NE(watch.look(3.1, 0.9), "");
  for (int i = 0; i < 40; ++i) watch.add(0, 0);
  EXPECT_EQ(watch.look(2, 2), "") << "where all was zero, nothing is known";
}

TEST(DivergenceWatch, is_kept_exactly) {
  std::mt19937_64 random(7);
  std::uniform_real_distribution<double> any(0, 10);
  DivergenceWatch watch;
  for (int i = 0; i < 50; ++i) {
    DivergenceWatch again;
    ASSERT_TRUE(again.restore(watch.text()));
    EXPECT_EQ(again.text(), watch.text());
    watch.add(any(random), any(random));
  }
  for (const char* broken : {"", "1", "x", "1 2 3 nan"}) EXPECT_FALSE(watch.restore(broken)) << broken;
}

class Divergence : public SmallTraining {
 protected:
  using Scale = std::function<double(int64_t step, double scale)>;
  struct Ended {
    std::string error, notes;
    ErrorCode code = ErrorCode::shape;
  };

  void SetUp() override {
    SmallTraining::SetUp();
    recipe_.scratch = "none";
    recipe_.steps = 12;
    recipe_.save_every = 1;
    recipe_.lr = 1e-3;
  }
  Ended run(Recipe recipe, const std::string& out, const Scale& scale) {
    recipe.out = folder_.file(out);
    Ended ended;
    Events events = Events::silent([&](const std::string& note) { ended.notes += note + "\n"; });
    const auto done = [&]() -> Result<void> {
      auto trainer = TRY(Trainer::prepare(recipe, events));
      trainer->use_scale(scale);
      return trainer->run();
    }();
    if (!done) ended.error = done.error().message, ended.code = done.error().code;
    return ended;
  }
  // At these steps the gradient is multiplied with `factor`.
  static Scale at(std::vector<int64_t> steps, double factor) {
    return [steps, factor](int64_t step, double scale) {
      return std::ranges::find(steps, step) == steps.end() ? scale : scale * factor;
    };
  }
  static double same(int64_t, double scale) { return scale; }
  // The numbers that the states of drawn layers have.
  std::set<float> states_in_slots(const std::string& out) {
    const auto file = SafetensorsFile::open(folder_.file(out + "/checkpoint.safetensors"));
    EXPECT_TRUE(file) << file.error().message;
    std::set<float> numbers;
    if (!file) return numbers;
    for (const SafetensorsEntry& entry : file->entries()) {
      if (entry.name.find("slot.") == std::string::npos) continue;
      EXPECT_EQ(entry.dtype, "F32");
      std::vector<float> values(entry.bytes / 4);
      EXPECT_TRUE(file->file().read(entry.offset, std::as_writable_bytes(std::span(values))));
      numbers.insert(values.begin(), values.end());
    }
    return numbers;
  }
  // All that is trained, with the states.
  std::string trained(const std::string& out) {
    const auto file = SafetensorsFile::open(folder_.file(out + "/checkpoint.safetensors"));
    EXPECT_TRUE(file) << file.error().message;
    if (!file) return "";
    std::map<std::string, std::string> values;  // by name: their order in the file is that of their updates
    for (const SafetensorsEntry& entry : file->entries().first(file->entries().size() - 1)) {
      std::string& bytes = values[entry.name];
      bytes.resize(entry.bytes);
      EXPECT_TRUE(file->file().read(entry.offset, std::as_writable_bytes(std::span(bytes))));
    }
    std::string all;
    for (const auto& [name, bytes] : values) all += bytes;
    return all;
  }
  std::string events(const std::string& out) { return file_bytes(folder_.file(out + "/events.jsonl")); }
};

TEST_F(Divergence, stops_before_anything_is_saved_and_resumes) {
  ASSERT_EQ(run(recipe_, "straight", same).error, "");
  for (const double factor : {kNan, kInfinity, 1e9}) {
    const std::string out = fmt::format("factor{}", factor);
    const Ended ended = run(recipe_, out, at({11}, factor));
    EXPECT_EQ(ended.code, ErrorCode::diverged);
    EXPECT_THAT(ended.error, HasSubstr("step 11: the gradient's norm, "));
    EXPECT_THAT(ended.error, HasSubstr("--on-divergence skip"));
    EXPECT_THAT(events(out), HasSubstr(R"("event":"divergence","step":11)"));
    Recipe resumed = recipe_;
    resumed.resume = true;
    ASSERT_EQ(run(resumed, out, same).error, "");
    EXPECT_EQ(trained(out), trained("straight"));
    EXPECT_THAT(events(out), testing::Not(HasSubstr(R"("event":"divergence")"))) << "it was made up for";
  }
}

// A step that is passed over leaves weights and states as they were; the next takes the next batch.
TEST_F(Divergence, skips_a_batch) {
  recipe_.on_divergence = "skip";
  for (const double clip : {1.0, 0.0})  // without clipping, updates would not wait for the whole gradient
    for (const double factor : {kNan, kInfinity, -kInfinity}) {
      recipe_.clip = clip;
      Recipe until = recipe_;
      until.steps = 4;
      ASSERT_EQ(run(until, "four", same).error, "");
      until.steps = 5;
      ASSERT_EQ(run(until, "five", at({5}, factor)).error, "");
      EXPECT_EQ(trained("five"), trained("four"));
      EXPECT_THAT(events("five"), HasSubstr(R"("event":"divergence","step":5,"what":"the gradient's norm, )"));
      EXPECT_THAT(events("five"), HasSubstr(R"("then":"passed over")"));
      EXPECT_THAT(events("five"), testing::ContainsRegex(R"("epoch":0,"examples":.[0-9,]+.)"));
    }
}

TEST_F(Divergence, skipping_is_the_same_at_every_budget_and_after_a_resume) {
  recipe_.on_divergence = "skip";
  recipe_.steps = 16;
  const Scale scale = at({3, 7, 8, 13}, kNan);
  ASSERT_EQ(run(recipe_, "straight", scale).error, "");
  Recipe early = recipe_;
  early.steps = 8;
  ASSERT_EQ(run(early, "early", scale).error, "");
  early.steps = 16, early.resume = true;
  ASSERT_EQ(run(early, "early", scale).error, "");
  EXPECT_EQ(trained("early"), trained("straight"));
  Recipe parts = recipe_;
  parts.batch = 1, parts.accumulate = 2;
  ASSERT_EQ(run(parts, "parts", scale).error, "");
  Recipe disk = parts;
  disk.scratch = "", disk.memory = 0;
  ASSERT_EQ(run(disk, "disk", scale).error, "");
  EXPECT_EQ(trained("disk"), trained("parts"));
}

TEST_F(Divergence, rolls_back_to_the_last_checkpoint) {
  recipe_.on_divergence = "rollback";
  recipe_.save_every = 4;
  Recipe four = recipe_;
  four.steps = 4;
  ASSERT_EQ(run(four, "four", same).error, "");
  Recipe seven = recipe_;
  seven.steps = 7;
  const Ended ended = run(seven, "seven", at({7}, kNan));
  ASSERT_EQ(ended.error, "");
  EXPECT_EQ(trained("seven"), trained("four"));
  EXPECT_THAT(events("seven"), HasSubstr("back to the weights of step 4, on to the next batch"));
  ASSERT_EQ(run(recipe_, "on", at({7}, kNan)).error, "") << "and on from there";
  const Ended none = run(recipe_, "none", at({3}, kNan));
  EXPECT_EQ(none.code, ErrorCode::diverged);
  EXPECT_THAT(none.error, HasSubstr("there is no checkpoint to go back to: give --save-every"));
}

// The first update of a period has states begin anew for the layers that it draws. Where that step is passed over, or
// states come from a checkpoint, they are never those of layers that were drawn before.
TEST_F(Divergence, states_of_layers_that_were_drawn_before_stay_behind) {
  recipe_.select = "lisa";
  recipe_.set = {"lisa.layers=1", "lisa.period=4"};
  recipe_.steps = 5;
  for (const char* what : {"skip", "rollback"}) {
    recipe_.on_divergence = what;
    ASSERT_EQ(run(recipe_, what, at({5}, kNan)).error, "");
    EXPECT_EQ(states_in_slots(what), std::set<float>{0}) << what << ": of the period before";
    ASSERT_EQ(run(recipe_, "clean", same).error, "");
    EXPECT_GT(states_in_slots("clean").size(), 100u) << "of its own";
  }
  recipe_.steps = 8;
  recipe_.save_every = 3;
  const Ended ended = run(recipe_, "other", at({6}, kNan));
  EXPECT_EQ(ended.code, ErrorCode::diverged);
  EXPECT_THAT(ended.error, HasSubstr("the checkpoint, of step 3, has the states of layers that --select lisa drew"));
}

TEST_F(Divergence, gives_up_where_nothing_else_comes) {
  recipe_.on_divergence = "skip";
  recipe_.steps = 40;
  const Ended ended = run(recipe_, "run", [](int64_t step, double scale) { return step < 3 ? scale : kNan; });
  EXPECT_EQ(ended.code, ErrorCode::diverged);
  EXPECT_THAT(ended.error,
              HasSubstr("step 10: the gradient's norm, nan, is not finite, and so were the 7 steps before"));
  // A resumed run counts on.
  Recipe early = recipe_;
  early.steps = 6;
  const auto bad = [](int64_t step, double scale) { return step < 3 ? scale : kNan; };
  ASSERT_EQ(run(early, "early", bad).error, "");
  early.steps = 40, early.resume = true;
  EXPECT_THAT(run(early, "early", bad).error, HasSubstr("step 10: "));
  EXPECT_EQ(run(recipe_, "first", at({1}, kNan)).code, ErrorCode::diverged) << "before the first update";
}

// At 50 random steps, in every form: nothing of it is ever in a saved state.
TEST_F(Divergence, nothing_that_is_not_finite_is_ever_saved) {
  recipe_.on_divergence = "skip";
  recipe_.steps = 120;
  recipe_.save_every = 10;
  std::mt19937_64 random(11);
  std::map<int64_t, double> bad;
  constexpr double kFactors[] = {kNan, kInfinity, -kInfinity, 1e7};
  while (bad.size() < 50) bad[12 + static_cast<int64_t>(random() % 108)] = kFactors[bad.size() % 4];
  const Ended ended =
      run(recipe_, "run", [&](int64_t step, double scale) { return bad.contains(step) ? scale * bad[step] : scale; });
  const bool too_many = ended.code == ErrorCode::diverged;  // more in a row than are passed over
  ASSERT_TRUE(ended.error.empty() || too_many) << ended.error;
  for (const std::string& path : checkpoints_in(folder_.file("run"))) {
    const auto file = SafetensorsFile::open(path);
    ASSERT_TRUE(file);
    for (const SafetensorsEntry& entry : file->entries()) {
      if (entry.dtype != "F32") continue;
      std::vector<float> values(entry.bytes / 4);
      ASSERT_TRUE(file->file().read(entry.offset, std::as_writable_bytes(std::span(values))));
      for (const float value : values) ASSERT_TRUE(std::isfinite(value) && std::abs(value) < 1e6) << entry.name;
    }
  }
  size_t told = 0;
  const std::string log = events("run");
  for (size_t at = log.find("\"divergence\""); at != std::string::npos; at = log.find("\"divergence\"", at + 1)) ++told;
  EXPECT_GE(told, too_many ? 9u : 50u);
}

TEST_F(Divergence, ordinary_runs_are_not_stopped) {
  recipe_.save_every = 0;
  recipe_.steps = 30;
  for (const char* optimizer : {"adamw", "sgd", "lion"})
    for (const double lr : {3e-2}) {
      recipe_.optimizer = optimizer, recipe_.lr = lr;
      const Ended ended = run(recipe_, "run", same);
      EXPECT_EQ(ended.error, "") << optimizer << " " << lr;
    }
}

}  // namespace
}  // namespace thimble
