// Whole runs on a disk that fails: a success or a clear error, and what was saved resumes to the same bits.
// With THIMBLE_EVERY_CALL a fault strikes at every call, instead of at a sample of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

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
  // How many calls a run on a sound disk makes, and its model.
  std::pair<int64_t, std::string> undisturbed() const {
    std::filesystem::remove_all(folder_.file("run"));
    FaultyDisk disk(folder_.file("run"));
    const OtherFileSystem other(disk);
    EXPECT_TRUE(run(at("run")));
    EXPECT_GE(disk.calls(), 100);
    const std::string model = model_of("run");
    EXPECT_FALSE(model.empty());
    return {disk.calls(), model};
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
      EXPECT_EQ(disk.synced_again(), "") << disk.struck_at();
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

// The process is killed before a call, with saves that are waited for and with saves beside steps.
TEST_F(FaultyRun, killed_at_every_call_resumes_to_the_same_bits) {
  for (const bool waits : {true, false}) {
    recipe_.wait_for_saves = waits;
    const auto [calls, expected] = undisturbed();
    const int64_t stride = std::max<int64_t>(1, calls / (2 * kCallsPerFault));
    int64_t killed = 0, resumed = 0;
    for (int64_t call = waits ? 0 : stride / 2; call < calls; call += stride) {
      SCOPED_TRACE("killed at call " + std::to_string(call));
      std::filesystem::remove_all(folder_.file("run"));
      const pid_t child = ::fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        FaultyDisk disk(folder_.file("run"), {.at = call, .kills = true});
        const OtherFileSystem other(disk);
        ::_exit(run(at("run")) ? 0 : 1);
      }
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      if (WIFSIGNALED(status)) {
        ++killed;
        EXPECT_EQ(WTERMSIG(status), SIGKILL);
        const bool saved = !checkpoints_in(folder_.file("run")).empty();
        resumed += saved;
        const Result<void> again = run(at("run", saved));
        ASSERT_TRUE(again) << again.error().message;
      } else {  // with saves beside steps, the order of calls and so their number may differ
        EXPECT_FALSE(waits);
        EXPECT_EQ(WEXITSTATUS(status), 0);
      }
      EXPECT_EQ(model_of("run"), expected);
    }
    EXPECT_GE(killed, 2);
    EXPECT_GE(resumed, 1);
    RecordProperty(waits ? "calls_waiting" : "calls_beside", static_cast<int>(calls));
  }
}

struct NamedFault {
  const char* name;
  DiskFault fault;
  int64_t first;  // where the fast tests begin their sample of the calls, so that not all faults strike the same ones
};

constexpr NamedFault kFaults[] = {{"EIO", {.error = EIO}, 0},
                                  {"ENOSPC_that_lasts", {.error = ENOSPC, .lasts = true}, 1},
                                  {"EINTR", {.error = EINTR}, 2},
                                  {"short_transfer", {.half = true}, 3},
                                  {"EDQUOT_after_half", {.error = EDQUOT, .half = true}, 4}};

class FaultyRunAtEveryCall : public FaultyRun, public testing::WithParamInterface<NamedFault> {};

TEST_P(FaultyRunAtEveryCall, ends_well_or_with_an_error_that_can_be_resumed) {
  const auto [calls, expected] = undisturbed();
  const int64_t stride = std::max<int64_t>(1, calls / kCallsPerFault);
  for (int64_t call = GetParam().first % stride; call < calls; call += stride) {
    DiskFault strike = GetParam().fault;
    strike.at = call;
    check(strike, expected);
  }
  RecordProperty("calls", static_cast<int>(calls));
}

INSTANTIATE_TEST_SUITE_P(, FaultyRunAtEveryCall, testing::ValuesIn(kFaults),
                         [](const testing::TestParamInfo<NamedFault>& fault) { return fault.param.name; });

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
