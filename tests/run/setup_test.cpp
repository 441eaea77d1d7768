// What is told of data before a run, and the lock of its folder.
#include "run/setup.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <vector>

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

// What a program that uses the library has mapped is its own business.
TEST(PopulateRuntime, leaves_the_mappings_of_a_host_alone) {
  constexpr size_t kBytes = 64 << 20;
  TemporaryFolder folder;
  const std::string path = folder.write("data", "");
  std::filesystem::resize_file(path, kBytes);
  const int file = ::open(path.c_str(), O_RDONLY);
  void* const mapped = ::mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE, file, 0);
  ::close(file);
  ASSERT_NE(mapped, MAP_FAILED);
  populate_runtime(0);
  const int64_t before = resident_bytes();
  populate_runtime(0);
  EXPECT_LT(resident_bytes() - before, int64_t{kBytes} / 2);
  // The first time counts too: what is resident is not this file.
  ::munmap(mapped, kBytes);
  EXPECT_GT(resident_bytes(), before - int64_t{kBytes} / 2);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // whose heaps are other ones
// A heap with a hole of 24 KB behind every block that stays: small things would bring the pages of holes in again.
// While they are held, what is allocated finds pages that are there.
TEST(HeapHoles, small_things_bring_in_no_page_while_they_are_held) {
  constexpr size_t kBlocks = 1000, kBytes = 24 << 10;
  const auto grown = [](bool held) {
    std::vector<std::unique_ptr<char[]>> stay, go;
    for (size_t i = 0; i < kBlocks; ++i) {
      go.emplace_back(new char[kBytes]()), stay.emplace_back(new char[64]());
    }
    go.clear();
    HeapHoles holes;
    populate_runtime(8 << 20, held ? &holes : nullptr);
    const int64_t before = resident_bytes();
    std::vector<std::unique_ptr<char[]>> things;
    for (size_t i = 0; i < 1500; ++i) things.emplace_back(new char[4 << 10]());
    return resident_bytes() - before;
  };
  EXPECT_GT(grown(false), 1 << 20) << "the test shows nothing: the holes have their pages";
  EXPECT_LT(grown(true), 256 << 10);
}
#endif

TEST(CheckBudget, refuses_what_the_control_group_would_kill) {
  TemporaryFolder folder;
  const ControlGroups groups{folder.write("self", "0::/job\n"), folder.file("groups")};
  folder.write("groups/job/memory.max", "500000000\n");
  EXPECT_TRUE(check_budget(500'000'000, groups));
  const auto above = check_budget(600'000'000, groups);
  ASSERT_FALSE(above);
  EXPECT_EQ(above.error().code, ErrorCode::over_budget);
  EXPECT_THAT(above.error().message, testing::HasSubstr("may take 500.0 MB"));
  EXPECT_THAT(above.error().message, testing::HasSubstr("give at most --memory 500M"));
}

}  // namespace
}  // namespace thimble
