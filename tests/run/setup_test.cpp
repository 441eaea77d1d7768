// What is told of data before a run, and the lock of its folder.
#include "run/setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "run/out_lock.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using testing::ElementsAre;

std::vector<std::string> told(const DatasetReport& report) {
  std::vector<std::string> notes;
  Events events = Events::silent([&](const std::string& note) { notes.push_back(note); });
  report_data(events, "d", report);
  return notes;
}

TEST(ReportData, counts_one_and_many) {
  EXPECT_THAT(told({.examples = 1, .bad_lines = 1, .dropped_tokens = 1, .first_errors = {"d:1: not JSON"}}),
              ElementsAre("warning: d:1: not JSON",
                          "d: 1 example, 1 bad line left out, 1 token of the last, shorter window dropped"));
  EXPECT_THAT(told({.examples = 2, .too_long = 1}), ElementsAre("d: 2 examples, 1 longer than the context left out"));
}

TEST(ReportData, says_how_many_bad_lines_are_not_shown) {
  EXPECT_THAT(told({.examples = 3, .bad_lines = 4, .first_errors = {"d:1: a", "d:2: b"}}),
              ElementsAre("warning: d:1: a", "warning: d:2: b", "warning: and 2 bad lines more",
                          "d: 3 examples, 4 bad lines left out"));
}

TEST(OutLock, excludes_another_process_and_names_it) {
  TemporaryFolder folder;
  {
    const auto lock = OutLock::take(folder.path());
    ASSERT_TRUE(lock) << lock.error().message;
    const auto second = OutLock::take(folder.path());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::invalid_argument);
    EXPECT_THAT(second.error().message, ::testing::HasSubstr(fmt::format("(process {})", ::getpid())));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "the file is left there";
  EXPECT_TRUE(OutLock::take(folder.path()));
}

}  // namespace
}  // namespace thimble
