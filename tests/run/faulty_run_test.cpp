// Whole runs on a disk that fails: a success or a clear error, and what was saved resumes to the same bits.
// THIMBLE_EVERY_CALL: at every call, instead of a sample of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "faulty_disk.h"
#include "run/small_training.h"

namespace thimble {
namespace {

#ifdef THIMBLE_EVERY_CALL
constexpr int64_t kCallsPerFault = 1'000'000;
#else
constexpr int64_t kCallsPerFault = 2;
#endif

class FaultyRun : public SmallTraining {
 protected:
  void SetUp() override {
    SmallTraining::SetUp();
    recipe_.steps = 2;
    recipe_.save_every = 1;
    recipe_.scratch = "none";
    recipe_.eval_data = recipe_.data;
  }
  Recipe at(const std::string& out, bool resume = false) const {
    Recipe recipe = recipe_;
    recipe.out = folder_.file(out);
    recipe.resume = resume;
    return recipe;
  }
  static Result<void> run(const Recipe& recipe) {
    Events events = Events::silent([](const std::string&) {});
    auto trainer = TRY(Trainer::prepare(recipe, events));
    return trainer->run();
  }
  std::string model_of(const std::string& out) const {
    return file_bytes(folder_.file(out + "/model/model.safetensors")) +
           file_bytes(folder_.file(out + "/best/model/model.safetensors"));
  }
  // Runs with the fault; then, on a sound disk, resumes what was saved, or begins where nothing was.
  void check(const DiskFault& fault, const std::string& expected) {
    std::filesystem::remove_all(folder_.file("run"));
    std::string where;
    Result<void> done;
    bool saved = false;
    {
      FaultyDisk disk(folder_.file("run"), fault);
      const OtherFileSystem other(disk);
      done = run(at("run"));
      EXPECT_TRUE(disk.struck());
      EXPECT_FALSE(disk.synced_again()) << disk.struck_at();
      where = disk.struck_at();
      saved = !checkpoints_in(folder_.file("run")).empty();
    }
    if (!done) {
      EXPECT_EQ(done.error().code, ErrorCode::io) << where << ": " << done.error().message;
      EXPECT_THAT(done.error().message, testing::HasSubstr(folder_.path())) << where;
      const Result<void> again = run(at("run", saved));
      ASSERT_TRUE(again) << where << ": " << again.error().message;
    }
    EXPECT_EQ(model_of("run"), expected) << where;
  }
};

TEST_F(FaultyRun, ends_well_or_with_an_error_that_can_be_resumed) {
  ASSERT_TRUE(run(at("run")));
  const std::string expected = model_of("run");
  ASSERT_FALSE(expected.empty());
  std::filesystem::remove_all(folder_.file("run"));
  int64_t calls = 0;
  {
    FaultyDisk disk(folder_.file("run"));
    const OtherFileSystem other(disk);
    ASSERT_TRUE(run(at("run")));
    calls = disk.calls();
  }
  EXPECT_GE(calls, 100);
  const std::vector<DiskFault> faults = {{.error = EIO},
                                         {.error = ENOSPC, .lasts = true},
                                         {.error = EINTR},
                                         {.half = true},
                                         {.error = EDQUOT, .half = true}};
  const int64_t stride = std::max<int64_t>(1, calls / kCallsPerFault);
  int64_t first = 0;
  for (const DiskFault& fault : faults)
    for (int64_t call = first++ % stride; call < calls; call += stride) {
      DiskFault strike = fault;
      strike.at = call;
      check(strike, expected);
    }
}

// The newest checkpoint decays after the run was stopped: the one before it gives the same end.
TEST_F(FaultyRun, goes_on_from_the_checkpoint_before_a_damaged_one) {
  recipe_.steps = 3;
  ASSERT_TRUE(run(at("straight")));
  Recipe early = at("run");
  early.steps = 2;
  ASSERT_TRUE(run(early));
  const std::string path = folder_.file("run/checkpoint.safetensors");
  std::string bytes = file_bytes(path);
  bytes[bytes.size() / 2] ^= 4;
  folder_.write("run/checkpoint.safetensors", bytes);
  std::string notes;
  Events events = Events::silent([&](const std::string& note) { notes += note + "\n"; });
  auto trainer = Trainer::prepare(at("run", true), events);
  ASSERT_TRUE(trainer) << trainer.error().message;
  const Result<void> done = (*trainer)->run();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_THAT(notes, testing::HasSubstr("this checkpoint is damaged"));
  EXPECT_THAT(notes, testing::HasSubstr("resumed at step 1 of 3"));
  EXPECT_EQ(model_of("run"), model_of("straight"));
  EXPECT_EQ(checkpoints_in(folder_.file("run")).size(), 2u);
}

}  // namespace
}  // namespace thimble
