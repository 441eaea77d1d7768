#include "files/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

TEST(InputFile, reads_at_any_offset_and_refuses_to_read_past_the_end) {
  TemporaryFolder folder;
  const auto file = InputFile::open(folder.write("a", "0123456789"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->size(), 10u);
  char text[4];
  ASSERT_TRUE(file->read(3, std::as_writable_bytes(std::span(text))));
  EXPECT_EQ(std::string_view(text, 4), "3456");
  const auto past = file->read(8, std::as_writable_bytes(std::span(text)));
  ASSERT_FALSE(past);
  EXPECT_EQ(past.error().code, ErrorCode::corrupt);
  EXPECT_FALSE(file->read(~uint64_t{0}, std::as_writable_bytes(std::span(text))));
}

TEST(InputFile, refuses_what_is_no_regular_file) {
  TemporaryFolder folder;
  EXPECT_THAT(InputFile::open(folder.path()).error().message, HasSubstr("found a folder"));
  EXPECT_THAT(InputFile::open(folder.file("absent")).error().message, HasSubstr("absent: No such file"));
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  EXPECT_THAT(InputFile::open(folder.file("pipe")).error().message, HasSubstr("regular file"));
}

TEST(OutputFile, appears_only_when_committed) {
  TemporaryFolder folder;
  const std::string path = folder.write("a", "old");
  {
    auto file = OutputFile::create(path);
    ASSERT_TRUE(file) << file.error().message;
    ASSERT_TRUE(file->write("new text"));
    ASSERT_TRUE(file->write_zeros(5000));
    EXPECT_EQ(file->size(), 5008u);
    EXPECT_EQ(file_bytes(path), "old");
    ASSERT_TRUE(file->commit());
    EXPECT_FALSE(file->commit());
  }
  EXPECT_EQ(file_bytes(path), "new text" + std::string(5000, '\0'));
}

TEST(OutputFile, leaves_nothing_behind_when_abandoned) {
  TemporaryFolder folder;
  {
    auto file = OutputFile::create(folder.file("a"));
    ASSERT_TRUE(file && file->write("text"));
    OutputFile moved = std::move(*file);
    EXPECT_FALSE(std::filesystem::is_empty(folder.path()));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

// Of a process that was killed while it wrote the same file; not of one that is writing it, wherever it runs.
TEST(OutputFile, removes_what_a_killed_process_left) {
  TemporaryFolder folder;
  const auto old = std::filesystem::file_time_type::clock::now() - std::chrono::minutes(2);
  for (const char* name : {"a.1.0.part", "a.2.0.part", "b.1.0.part", "a.mine.part", "a.1.0.x.part"})
    std::filesystem::last_write_time(folder.write(name, "half"), old);
  folder.write("a.1.1.part", "just made, and not locked yet");
  const int writer = ::open(folder.file("a.2.0.part").c_str(), O_WRONLY);
  ASSERT_EQ(::flock(writer, LOCK_EX | LOCK_NB), 0);
  ASSERT_TRUE(write_text_file(folder.file("a"), "text"));
  ::close(writer);
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    left.push_back(entry.path().filename().string());
  EXPECT_THAT(left, testing::UnorderedElementsAre("a", "a.1.1.part", "a.2.0.part", "b.1.0.part", "a.mine.part",
                                                  "a.1.0.x.part"));
}

TEST(OutputFile, takes_the_place_of_nothing_but_a_regular_file) {
  TemporaryFolder folder;
  ASSERT_EQ(::mkfifo(folder.file("pipe").c_str(), 0600), 0);
  const auto file = OutputFile::create(folder.file("pipe"));
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("found a device, pipe or socket"));
  EXPECT_TRUE(std::filesystem::is_fifo(folder.file("pipe")));
}

TEST(OutputFile, says_that_the_folder_is_missing) {
  TemporaryFolder folder;
  const auto file = OutputFile::create(folder.file("no/such/file"));
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("does not exist; make it first"));
}

TEST(TextFile, is_bounded) {
  TemporaryFolder folder;
  const std::string path = folder.file("a");
  ASSERT_TRUE(write_text_file(path, "0123456789"));
  EXPECT_EQ(*read_text_file(path), "0123456789");
  EXPECT_THAT(read_text_file(path, 5).error().message, HasSubstr("at most 5 bytes, found 10"));
}

TEST(Directories, are_made_with_those_above) {
  TemporaryFolder folder;
  EXPECT_TRUE(make_directories(folder.file("a/b/c")));
  EXPECT_TRUE(make_directories(folder.file("a/b/c")));
  EXPECT_TRUE(is_directory(folder.file("a/b/c")));
  folder.write("file", "");
  EXPECT_FALSE(make_directories(folder.file("file")));
}

}  // namespace
}  // namespace thimble
