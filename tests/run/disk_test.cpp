// Training whose values wait on disk: the bits of a run without, and what happens when the disk fails in the middle.
#include <gmock/gmock.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "run/small_training.h"

namespace thimble {
namespace {

using testing::HasSubstr;

// A queue whose requests go wrong from one on.
class FaultyQueue : public IoQueue {
 public:
  struct Plan {
    int64_t seen = 0;          // requests so far, of all queues of this plan
    int64_t from = INT64_MAX;  // this one and all later ones
    int64_t result = -EIO;     // what they give; short transfers: a number of bytes
  };
  FaultyQueue(std::unique_ptr<IoQueue> real, Plan& plan) : real_(std::move(real)), plan_(plan) {}
  std::string_view name() const override { return "faulty"; }
  int depth() const override { return real_->depth(); }
  void submit(const IoRequest& request) noexcept override {
    IoRequest real = request;
    if (plan_.seen++ >= plan_.from) {
      if (plan_.result > 0)
        real.memory = real.memory.first(std::min<size_t>(real.memory.size(), static_cast<size_t>(plan_.result)));
      else
        failing_.push_back(request.tag);
    }
    real_->submit(real);
  }
  IoCompletion wait() noexcept override {
    IoCompletion done = real_->wait();
    if (std::erase(failing_, done.tag) > 0) done.result = plan_.result;
    return done;
  }

 private:
  std::unique_ptr<IoQueue> real_;
  Plan& plan_;
  std::vector<uint64_t> failing_;
};

class DiskTraining : public SmallTraining {
 protected:
  void SetUp() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer's own memory grows from run to run, so that no budget of the process is tight";
#endif
    SmallTraining::SetUp();
    recipe_.size = "2M";  // beside it, what planning takes is little
    recipe_.steps = 6;
    recipe_.batch = 2;
    recipe_.save_every = 2;
    straight_ = losses(recipe_, "straight");
    recipe_.memory = smallest_memory();
  }

  // Runs with a faulty disk; the error's message, empty when all went well.
  std::string run(const Recipe& recipe, FaultyQueue::Plan& plan, std::vector<double>* losses = nullptr) {
    forget_peak();
    Events events(true);
    if (losses) events.on_step([=](const StepEvent& step) { losses->push_back(step.loss); });
    auto trainer = Trainer::prepare(recipe, events);
    EXPECT_TRUE(trainer) << trainer.error().message;
    if (!trainer) return "no plan";
    (*trainer)->use_queue([&](int file) -> Result<std::unique_ptr<IoQueue>> {
      return std::make_unique<FaultyQueue>(TRY(thread_queue(file)), plan);
    });
    EXPECT_GT((*trainer)->plan().written_bytes, 0) << "nothing waits on disk: the test shows nothing";
    const auto done = (*trainer)->run();
    if (!done) {
      EXPECT_EQ(done.error().code, ErrorCode::io);
    }
    return done ? "" : done.error().message;
  }

  Recipe at(const std::string& out) const {
    Recipe recipe = recipe_;
    recipe.out = folder_.path() + "/" + out;
    return recipe;
  }

  std::vector<double> straight_;
};

TEST_F(DiskTraining, gives_the_bits_of_memory) {
  FaultyQueue::Plan healthy;
  std::vector<double> losses;
  EXPECT_EQ(run(at("healthy"), healthy, &losses), "");
  EXPECT_EQ(losses, straight_);
  EXPECT_EQ(parameters("healthy"), parameters("straight"));
}

TEST_F(DiskTraining, short_transfers_go_on) {
  FaultyQueue::Plan stutters{.from = 10, .result = 64 << 10};
  std::vector<double> losses;
  EXPECT_EQ(run(at("short"), stutters, &losses), "");
  EXPECT_EQ(losses, straight_);
}

// The disk fails, or is full, in the middle: a clear error, and the last checkpoint resumes to the same bits.
TEST_F(DiskTraining, survives_a_failing_disk) {
  FaultyQueue::Plan healthy;
  EXPECT_EQ(run(at("whole"), healthy), "");
  for (int error : {EIO, ENOSPC}) {
    FaultyQueue::Plan fails{.from = healthy.seen * 3 / 4, .result = -error};
    Recipe recipe = at("failed" + std::to_string(error));
    const std::string message = run(recipe, fails);
    EXPECT_THAT(message, HasSubstr("scratch"));
    EXPECT_THAT(message, HasSubstr(std::strerror(error)));
    EXPECT_THAT(message, HasSubstr("--resume"));
    recipe.resume = true;
    FaultyQueue::Plan mended;
    std::vector<double> rest;
    EXPECT_EQ(run(recipe, mended, &rest), "");
    ASSERT_FALSE(rest.empty());
    ASSERT_LT(rest.size(), straight_.size());
    EXPECT_EQ(rest, std::vector<double>(straight_.end() - static_cast<std::ptrdiff_t>(rest.size()), straight_.end()));
  }
}

}  // namespace
}  // namespace thimble
