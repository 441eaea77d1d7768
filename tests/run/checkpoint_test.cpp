// What a checkpoint is of, what goes with it, and what takes its place: the model, evaluations, space, earlier runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "commands/tiny_files.h"
#include "report/run_log.h"
#include "run/sealed_checkpoint.h"
#include "run/small_training.h"

namespace thimble {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// Of a run: how it ended, what was noted, and how a test steps in.
struct Ended {
  std::string error;  // "" when it went well
  ErrorCode code = ErrorCode::shape;
  std::string notes;
};
struct Hooks {
  Trainer::FreeBytes free_bytes = free_disk_bytes;
  std::function<bool(int64_t step)> stop = [](int64_t) { return false; };
};

Ended run(const Recipe& recipe, const Hooks& hooks = {}) {
  Ended ended;
  int64_t step = 0;
  Events events = Events::silent([&](const std::string& note) { ended.notes += note + "\n"; });
  events.on_step([&](const StepEvent& event) { step = event.step; });
  const auto done = [&]() -> Result<void> {
    auto trainer = TRY(Trainer::prepare(recipe, events));
    trainer->use_free_bytes(hooks.free_bytes);
    trainer->stop_when([&] { return hooks.stop(step); });
    return trainer->run();
  }();
  if (!done) ended.error = done.error().message, ended.code = done.error().code;
  return ended;
}

std::vector<std::pair<int64_t, double>> evaluations(const std::string& out) {
  std::vector<std::pair<int64_t, double>> all;
  const RunLog log = *read_run_log(out + kEventsFile);
  for (const EvalEvent& event : log.evals) all.emplace_back(event.step, event.nll);
  return all;
}

class Checkpoint : public SmallTraining {
 protected:
  Recipe at(const std::string& out) const {
    Recipe recipe = recipe_;
    recipe.out = folder_.file(out);
    return recipe;
  }
  Recipe resumed(const std::string& out) const {
    Recipe recipe = at(out);
    recipe.resume = true;
    return recipe;
  }
};

Result<int64_t> nearly_full(const std::string&) { return 1000; }

TEST_F(Checkpoint, a_disk_that_is_too_full_is_refused_before_anything_is_lost) {
  ASSERT_EQ(run(at("run")).error, "");
  const std::string log = file_bytes(folder_.file("run/events.jsonl"));
  const Ended ended = run(at("run"), {.free_bytes = nearly_full});
  EXPECT_EQ(ended.code, ErrorCode::io);
  EXPECT_THAT(ended.error, AllOf(HasSubstr("--out " + folder_.file("run")), HasSubstr("0.0 MB is free")));
  EXPECT_EQ(file_bytes(folder_.file("run/events.jsonl")), log);
  EXPECT_TRUE(is_file(folder_.file("run/model/model.safetensors")));
}

TEST_F(Checkpoint, space_that_is_not_known_is_said) {
  const Ended ended = run(
      at("run"), {.free_bytes = [](const std::string&) -> Result<int64_t> { return fail(ErrorCode::io, "no idea"); }});
  EXPECT_EQ(ended.error, "");
  EXPECT_THAT(ended.notes, HasSubstr("warning: no idea: whether the checkpoints and the result will fit is not known"));
}

// Stopped before the evaluation of the last step, and of one between.
// Schedules are in the graph: were they made anew, another run would be resumed.
TEST_F(Checkpoint, a_run_made_longer_keeps_the_schedules_of_its_methods) {
  const TinyFiles tiny;
  recipe_.model = tiny.gguf, recipe_.size = recipe_.tokenizer = "";
  for (const char* const method : {"adalora", "elalora", "lamda", "sara"}) {
    SCOPED_TRACE(method);
    recipe_.method = method, recipe_.steps = 4;
    ASSERT_EQ(run(at(method)).error, "");
    for (const int64_t steps : {6, 8}) {
      Recipe longer = resumed(method);
      longer.steps = steps;
      const Ended ended = run(longer);
      EXPECT_EQ(ended.error, "");
      EXPECT_THAT(ended.notes, HasSubstr("what --method does by its own schedule stays as for 4 steps"));
    }
  }
  recipe_.method = "oft", recipe_.steps = 1;  // what goes around the optimizer there has none
  ASSERT_EQ(run(at("oft")).error, "");
  Recipe longer = resumed("oft");
  longer.steps = 2;
  EXPECT_THAT(run(longer).notes, AllOf(HasSubstr("learning rate changes"), Not(HasSubstr("--method"))));
}

TEST_F(Checkpoint, an_evaluation_that_was_interrupted_is_made_up_for) {
  recipe_.eval_data = recipe_.data;
  recipe_.eval_every = 2;
  recipe_.steps = 4;
  ASSERT_EQ(run(at("straight")).error, "");
  const auto straight = evaluations(folder_.file("straight"));
  ASSERT_EQ(straight.size(), 3u);
  for (int64_t last : {2, 4}) {
    const std::string out = "stopped" + std::to_string(last);
    const Ended stopped = run(at(out), {.stop = [&](int64_t step) { return step == last; }});
    EXPECT_EQ(stopped.code, ErrorCode::cancelled);
    EXPECT_THAT(stopped.error, HasSubstr(fmt::format("stopped after step {} of 4", last)));
    EXPECT_EQ(evaluations(folder_.file(out)).back().first, last - 2);
    EXPECT_EQ(run(resumed(out)).error, "");
    EXPECT_EQ(evaluations(folder_.file(out)), straight);
    EXPECT_EQ(file_bytes(folder_.file(out + "/best/model/model.safetensors")),
              file_bytes(folder_.file("straight/best/model/model.safetensors")));
    // And only once.
    EXPECT_EQ(run(resumed(out)).error, "");
    EXPECT_EQ(evaluations(folder_.file(out)), straight);
  }
}

class Replacing : public testing::Test {
 protected:
  Replacing() {
    recipe_.model = tiny_.gguf;
    recipe_.data = tiny_.folder.write("chats.jsonl", R"({"prompt":"ab","completion":"ab"})"
                                                     "\n");
    recipe_.out = file("run");
    recipe_.context = 16;
    recipe_.steps = 1;
    recipe_.threads = 2;
    recipe_.scratch = "none";
  }
  std::string file(const std::string& name) const { return tiny_.folder.file(name); }
  // A full training with evaluation, and a file of the user's among its results.
  void train_all() {
    Recipe full = recipe_;
    full.method = "full";
    full.eval_data = full.data;
    ASSERT_EQ(run(full).error, "");
    ASSERT_TRUE(is_file(file("run/best/model/config.json")));
    tiny_.folder.write("run/model/mine.gguf", "mine");
  }

  TinyFiles tiny_;
  Recipe recipe_;
};

TEST_F(Replacing, what_would_be_stale_goes_and_what_is_the_users_stays) {
  train_all();
  EXPECT_NE(run(recipe_, {.free_bytes = nearly_full}).error, "");
  EXPECT_TRUE(is_file(file("run/best/model/config.json"))) << "lost to a run that could not begin";
  ASSERT_EQ(run(recipe_).error, "");
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(file("run")))
    if (entry.is_regular_file()) left.push_back(entry.path().lexically_relative(file("run")).string());
  std::ranges::sort(left);
  EXPECT_THAT(left, ElementsAre("adapter/adapter_config.json", "adapter/adapter_model.safetensors",
                                "checkpoint.safetensors", "events.jsonl", "model/mine.gguf", "report.html"));
  EXPECT_FALSE(is_directory(file("run/best")));
}

TEST_F(Replacing, what_the_new_run_reads_stays) {
  train_all();
  recipe_.model = file("run/model");
  ASSERT_EQ(run(recipe_).error, "");
  EXPECT_TRUE(is_file(file("run/model/model.safetensors")));
  EXPECT_FALSE(is_directory(file("run/best")));
}

TEST_F(Replacing, what_another_hand_wrote_stays) {
  ASSERT_TRUE(make_directories(file("run/model")) && make_directories(file("run/best/adapter")));
  tiny_.folder.write("run/model/config.json", "mine");
  tiny_.folder.write("run/best/adapter/adapter_config.json", "mine");
  ASSERT_EQ(run(recipe_).error, "");
  recipe_.eval_data = recipe_.data;
  tiny_.folder.write("run/model/config.json", "mine");
  ASSERT_EQ(run(recipe_).error, "");  // replaces a LoRA run, whose results are not in model/
  EXPECT_EQ(file_bytes(file("run/model/config.json")), "mine");
}

TEST_F(Replacing, another_model_of_the_same_shape_is_refused) {
  ASSERT_EQ(run(recipe_).error, "");
  recipe_.resume = true;
  recipe_.steps = 2;
  std::filesystem::rename(tiny_.gguf, file("moved.gguf"));
  recipe_.model = file("moved.gguf");
  EXPECT_EQ(run(recipe_).error, "");

  recipe_.steps = 3;
  tiny_.model.values.at("model.layers.1.mlp.up_proj.weight")[48 * 64] += 1;
  const TokenizerTables tokenizer = tiny_tokenizer();
  ASSERT_TRUE(write_gguf_model(tiny_.gguf, tiny_.model.architecture, tiny_.model.tensors, tiny_.model.rows(),
                               {.tokenizer = &tokenizer}));
  recipe_.model = tiny_.gguf;
  const Ended other = run(recipe_);
  EXPECT_EQ(other.code, ErrorCode::invalid_argument);
  EXPECT_THAT(other.error, HasSubstr("begun with a model of other weights"));

  std::string text = file_bytes(file("run/checkpoint.safetensors"));
  const size_t key = text.find(",\"model\":\"");
  ASSERT_NE(key, std::string::npos);
  write_sealed(file("run/checkpoint.safetensors"), text.replace(key + 2, 5, "other"));
  const Ended unknown = run(recipe_);
  EXPECT_EQ(unknown.code, ErrorCode::corrupt);
  EXPECT_THAT(unknown.error, HasSubstr("does not say of which model"));
}

}  // namespace
}  // namespace thimble
