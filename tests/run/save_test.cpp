// Checkpoints that are written while steps run: the same bytes as when steps wait, and no error is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <future>
#include <mutex>
#include <set>
#include <thread>

#include "run/save_gate.h"
#include "run/small_training.h"

namespace thimble {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(SaveGate, lets_a_value_be_overwritten_when_it_has_been_read) {
  SaveGate gate({640, 64, 128});
  EXPECT_EQ(gate.position(640), 1);
  EXPECT_EQ(gate.position(64), 2);
  EXPECT_EQ(gate.position(128), 3);
  EXPECT_EQ(gate.position(0), 0);
  EXPECT_EQ(gate.position(96), 0);
  gate.wait_for(3);  // nothing is saved
  gate.close();
  std::atomic<int> passed{0};
  std::thread step([&] {
    for (int position = 1; position <= 3; ++position) {
      gate.wait_for(position);
      passed = position;
    }
  });
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(passed, 0);
  gate.has_read(2);
  while (passed < 2) std::this_thread::yield();
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(passed, 2);
  gate.open();
  step.join();
  EXPECT_EQ(passed, 3);
}

// What becomes of the files that are written beside their place, of which checkpoints are some.
class CheckpointDisk : public FileSystem {
 public:
  int open(const std::string& path, int flags, unsigned mode) noexcept override {
    const int descriptor = FileSystem::open(path, flags, mode);
    const std::lock_guard one(mutex_);
    if (path.find("checkpoint.safetensors.") != std::string::npos) ours_.insert(descriptor);
    return descriptor;
  }
  int close(int descriptor) noexcept override {
    {
      const std::lock_guard one(mutex_);
      ours_.erase(descriptor);
    }
    return FileSystem::close(descriptor);
  }

 protected:
  bool ours(int descriptor) noexcept {
    const std::lock_guard one(mutex_);
    return ours_.contains(descriptor);
  }

 private:
  std::mutex mutex_;
  std::set<int> ours_;
};

class SlowDisk final : public CheckpointDisk {
 public:
  explicit SlowDisk(std::chrono::microseconds time) : time_(time) {}  // of a write
  int64_t append(int descriptor, const void* from, size_t bytes) noexcept override {
    if (ours(descriptor)) std::this_thread::sleep_for(time_);
    return FileSystem::append(descriptor, from, bytes);
  }
  int sync(int descriptor) noexcept override { return ours(descriptor) ? 0 : FileSystem::sync(descriptor); }

 private:
  std::chrono::microseconds time_;
};

// Syncs of checkpoints, from the second on, do what is said.
class SyncingDisk final : public CheckpointDisk {
 public:
  explicit SyncingDisk(std::function<int()> sync) : sync_(std::move(sync)) {}
  int sync(int descriptor) noexcept override {
    return ours(descriptor) && saves_++ > 0 ? sync_() : FileSystem::sync(descriptor);
  }

 private:
  std::function<int()> sync_;
  int saves_ = 0;
};

class Saving : public SmallTraining {
 protected:
  void SetUp() override {
    SmallTraining::SetUp();
    recipe_.scratch = "none";
    recipe_.steps = 4;
    recipe_.batch = 2;
    recipe_.save_every = 1;
    recipe_.keep_checkpoints = 9;
  }
  // All checkpoints of a run, by name.
  std::map<std::string, std::string> checkpoints(Recipe recipe) {
    recipe.out = folder_.file("run");  // which a checkpoint names
    Events events = Events::silent([](const std::string&) {});
    SlowDisk disk(recipe.wait_for_saves ? 0us : 200us);
    const OtherFileSystem other(disk);
    auto trainer = Trainer::prepare(recipe, events);
    EXPECT_TRUE(trainer) << trainer.error().message;
    if (!trainer) return {};
    const auto done = (*trainer)->run();
    EXPECT_TRUE(done) << done.error().message;
    std::map<std::string, std::string> all;
    for (const std::string& path : checkpoints_in(recipe.out))
      all[std::filesystem::path(path).filename()] = file_bytes(path);
    std::filesystem::remove_all(recipe.out);
    return all;
  }
  Result<void> run(const std::string& out, Events& events, const std::function<bool()>& stop = {}) {
    recipe_.out = folder_.file(out);
    auto trainer = TRY(Trainer::prepare(recipe_, events));
    if (stop) trainer->stop_when(stop);
    return trainer->run();
  }
};

// The disk is slower than the steps: each update catches up with the save of the step before.
TEST_F(Saving, writes_the_bytes_of_a_save_that_steps_wait_for) {
  const std::vector<std::pair<std::string, std::function<void(Recipe&)>>> cases = {
      {"adamw", [](Recipe&) {}},
      {"no barrier", [](Recipe& r) { r.clip = 0; }},
      {"micro-batches", [](Recipe& r) { r.accumulate = 2; }},
      {"galore", [](Recipe& r) { r.optimizer = "galore", r.clip = 0; }},
      {"sophia", [](Recipe& r) { r.optimizer = "sophia"; }},
      {"lookahead", [](Recipe& r) { r.optimizer = "adamw,lookahead"; }},
      {"lisa",
       [](Recipe& r) {
         r.select = "lisa", r.set = {"lisa.layers=1", "lisa.period=2"};
       }},
      {"mezo", [](Recipe& r) { r.estimator = "mezo", r.lr = 1e-3; }},
      {"8 bits", [](Recipe& r) { r.states = "int8_block"; }},
      {"evaluation", [](Recipe& r) { r.eval_data = r.data, r.eval_every = 1; }},
      {"rollback", [](Recipe& r) { r.on_divergence = "rollback"; }},
  };
  for (const auto& [name, change] : cases) {
    SCOPED_TRACE(name);
    Recipe recipe = recipe_;
    change(recipe);
    const auto beside = checkpoints(recipe);
    recipe.wait_for_saves = true;
    const auto waited = checkpoints(recipe);
    EXPECT_EQ(waited.size(), 4u);
    for (const auto& [file, bytes] : waited) {
      ASSERT_TRUE(beside.contains(file)) << file;
      EXPECT_TRUE(beside.at(file) == bytes) << file;
    }
  }
}

// The next step is done while the disk still syncs.
TEST_F(Saving, steps_go_on_meanwhile) {
  std::promise<void> third;
  std::shared_future<void> done = third.get_future();
  bool went_on = false;
  SyncingDisk disk([&] { return went_on = done.wait_for(30s) == std::future_status::ready, 0; });
  const OtherFileSystem other(disk);
  Events events = Events::silent([](const std::string&) {});
  events.on_step([&](const StepEvent& step) {
    if (step.step == 3) third.set_value();
  });
  recipe_.steps = 3;
  const auto ran = run("run", events);
  ASSERT_TRUE(ran) << ran.error().message;
  EXPECT_TRUE(went_on);
}

TEST_F(Saving, an_error_ends_the_run_and_the_checkpoint_before_is_whole) {
  SyncingDisk disk([] { return -EIO; });
  Events events = Events::silent([](const std::string&) {});
  Result<void> ended;
  {
    const OtherFileSystem other(disk);
    ended = run("run", events);
  }
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().code, ErrorCode::io);
  EXPECT_THAT(ended.error().message, HasSubstr("syncing " + folder_.file("run/checkpoint.safetensors")));
  EXPECT_THAT(ended.error().message, HasSubstr("The checkpoint of step 1 in " + folder_.file("run") + " is untouched"));
  EXPECT_EQ(checkpoints_in(folder_.file("run")).size(), 1u);
  for (const auto& entry : std::filesystem::directory_iterator(folder_.file("run")))
    EXPECT_NE(entry.path().extension(), ".part") << entry.path();
  losses(recipe_, "straight");
  recipe_.resume = true;
  EXPECT_EQ(losses(recipe_, "run").size(), 3u);
  EXPECT_EQ(parameters("run"), parameters("straight"));
}

// A run that is stopped, or fails, while a save is under way says what is there when that is done.
TEST_F(Saving, a_run_that_ends_waits_for_it) {
  int steps = 0;
  Events events = Events::silent([](const std::string&) {});
  events.on_step([&](const StepEvent&) { ++steps; });
  SyncingDisk disk([] { return std::this_thread::sleep_for(50ms), 0; });
  const OtherFileSystem other(disk);
  const auto stopped = run("stopped", events, [&] { return steps == 3; });
  ASSERT_FALSE(stopped);
  EXPECT_EQ(stopped.error().code, ErrorCode::cancelled);
  EXPECT_THAT(stopped.error().message, HasSubstr("stopped after step 3 of 4; everything is saved"));
  EXPECT_EQ(checkpoints_in(folder_.file("stopped")).size(), 3u);
}

}  // namespace
}  // namespace thimble
