// What the machine does in a second is measured once, and a cache that cannot be used is made again.
#include "run/calibration.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "files/file.h"
#include "files/json.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

class CalibrationTest : public testing::Test {
 protected:
  void SetUp() override { setenv("XDG_CACHE_HOME", folder_.path().c_str(), 1); }
  void TearDown() override { unsetenv("XDG_CACHE_HOME"); }
  nlohmann::json cache() {
    auto text = read_text_file(calibration_path());
    EXPECT_TRUE(text) << text.error().message;
    return text ? nlohmann::json::parse(*text) : nlohmann::json();
  }
  TemporaryFolder folder_;
  Threads threads_{2};
};

TEST_F(CalibrationTest, measures_once) {
  const Machine first = calibrated_machine(threads_, folder_.path());
  EXPECT_GT(first.f32[0], 1e8);
  EXPECT_GT(first.bandwidth, 1e8);
  EXPECT_GT(first.disk.read, 1e5);
  EXPECT_NE(first.disk.read, Machine{}.disk.read) << "the disk was not measured";
  const Machine second = calibrated_machine(threads_, folder_.path());
  EXPECT_EQ(second.f32[0], first.f32[0]);
  EXPECT_EQ(second.disk.read, first.disk.read);
  EXPECT_EQ(cache()["speeds"].size(), 1u);
  EXPECT_EQ(cache()["disks"].size(), 1u);
}

TEST_F(CalibrationTest, a_disk_is_not_written_to_where_nobody_named_it) {
  const Machine guessed = calibrated_machine(threads_, folder_.path(), Measure::no_disk);
  EXPECT_EQ(guessed.disk.read, Machine{}.disk.read);
  EXPECT_TRUE(cache()["disks"].empty() || !cache()["disks"].front().is_object());
  const Machine measured = calibrated_machine(threads_, folder_.path());
  EXPECT_EQ(calibrated_machine(threads_, folder_.path(), Measure::no_disk).disk.read, measured.disk.read);
}

TEST_F(CalibrationTest, a_damaged_cache_is_measured_again) {
  const Machine first = calibrated_machine(threads_, "");
  for (const char* damaged : {"", "[1]", "{\"speeds\": 7}", "{\"speeds\": [], \"disks\": \"x\"}"}) {
    folder_.write("thimble/machine.json", damaged);
    EXPECT_GT(calibrated_machine(threads_, "").f32[0], 1e8) << damaged;
    EXPECT_EQ(cache()["speeds"].size(), 1u) << damaged;
  }
  EXPECT_GT(first.f32[0], 1e8);
}

}  // namespace
}  // namespace thimble
