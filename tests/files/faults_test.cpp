// What files do when the disk does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <filesystem>

#include "faulty_disk.h"
#include "files/file.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kOld = "what was there", kNew = "what is written in its place";

Result<void> replace(const std::string& path) {
  auto file = TRY(OutputFile::create(path));
  CHECK_OK(file.write(kNew.substr(0, 10)));
  CHECK_OK(file.write(kNew.substr(10)));
  return file.commit();
}

int64_t calls_of_replace(const TemporaryFolder& folder) {
  FaultyDisk disk(folder.path());
  const OtherFileSystem other(disk);
  folder.write("a", kOld);
  EXPECT_TRUE(replace(folder.file("a")));
  return disk.calls();
}

// The old file or the new one, and nothing beside it.
TEST(Faults, at_every_call_of_a_replacement) {
  TemporaryFolder folder;
  const int64_t calls = calls_of_replace(folder);
  EXPECT_GE(calls, 6);  // open, write twice, sync, rename, open and sync the folder
  for (const int error : {EIO, ENOSPC, EDQUOT})
    for (const bool lasts : {false, true})
      for (int64_t at = 0; at < calls; ++at) {
        const std::string path = folder.write("a", kOld);
        FaultyDisk disk(folder.path(), {.at = at, .error = error, .lasts = lasts});
        const OtherFileSystem other(disk);
        const Result<void> done = replace(path);
        ASSERT_FALSE(done) << at;
        EXPECT_EQ(done.error().code, ErrorCode::io);
        EXPECT_THAT(done.error().message, HasSubstr(path.substr(0, folder.path().size()))) << disk.struck_at();
        EXPECT_THAT(file_bytes(path), testing::AnyOf(kOld, kNew)) << disk.struck_at();
        EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1) << disk.struck_at();
        EXPECT_EQ(disk.synced_again(), "");
      }
}

TEST(Faults, short_and_interrupted_calls_are_continued) {
  TemporaryFolder folder;
  const int64_t calls = calls_of_replace(folder);
  for (const DiskFault fault : {DiskFault{.half = true}, DiskFault{.error = EINTR}, DiskFault{.milliseconds = 1}})
    for (int64_t at = 0; at < calls; ++at) {
      const std::string path = folder.write("a", kOld);
      DiskFault here = fault;
      here.at = at;
      FaultyDisk disk(folder.path(), here);
      const OtherFileSystem other(disk);
      const Result<void> done = replace(path);
      ASSERT_TRUE(done) << disk.struck_at() << ": " << done.error().message;
      EXPECT_EQ(file_bytes(path), kNew);
    }
}

TEST(Faults, a_torn_write_is_an_error) {
  TemporaryFolder folder;
  const std::string path = folder.write("a", kOld);
  FaultyDisk disk(folder.path(), {.at = 2, .error = EIO, .half = true});
  const OtherFileSystem other(disk);
  EXPECT_FALSE(replace(path));
  EXPECT_THAT(disk.struck_at(), HasSubstr("write"));
  EXPECT_EQ(file_bytes(path), kOld);
}

// The system reports a failed sync once; what a second one says of the same file means nothing.
TEST(Faults, a_sync_that_failed_is_not_tried_again) {
  TemporaryFolder folder;
  FaultyDisk disk(folder.path(), {.at = 2, .error = EIO});
  const OtherFileSystem other(disk);
  auto file = OutputFile::create(folder.file("a"));
  ASSERT_TRUE(file && file->write("text"));
  EXPECT_THAT(file->commit().error().message, HasSubstr("syncing"));
  EXPECT_THAT(disk.struck_at(), HasSubstr("sync"));
  EXPECT_FALSE(file->commit());
  EXPECT_FALSE(file->sync());
  EXPECT_FALSE(file->write("more"));
  EXPECT_EQ(disk.synced_again(), "");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Faults, reading_goes_on_or_says_what_failed) {
  TemporaryFolder folder;
  const std::string path = folder.write("a", kOld);
  for (const DiskFault fault : {DiskFault{.half = true}, DiskFault{.error = EINTR}, DiskFault{.error = EIO}})
    for (int64_t at = 0; at < 2; ++at) {
      DiskFault here = fault;
      here.at = at;
      FaultyDisk disk(folder.path(), here);
      const OtherFileSystem other(disk);
      const auto text = read_text_file(path);
      if (fault.error == EIO) {
        ASSERT_FALSE(text);
        EXPECT_EQ(text.error().code, ErrorCode::io);
      } else {
        ASSERT_TRUE(text) << text.error().message;
        EXPECT_EQ(*text, kOld);
      }
    }
}

TEST(Faults, a_file_that_is_cut_short_while_it_is_open_is_an_error) {
  TemporaryFolder folder;
  const std::string path = folder.write("a", kOld);
  const auto file = InputFile::open(path);
  ASSERT_TRUE(file);
  folder.write("a", "short");
  std::string text(kOld.size(), '\0');
  const auto read = file->read(0, std::as_writable_bytes(std::span(text)));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::corrupt);
  EXPECT_THAT(read.error().message, HasSubstr("it shrank while in use"));
}

// A replaced file, and one that was begun in a folder made for it, are there as soon as commit() has returned.
TEST(PowerLoss, what_was_committed_stays) {
  TemporaryFolder folder;
  FaultyDisk disk(folder.path());
  const std::string path = folder.file("made/here/a");
  {
    const OtherFileSystem other(disk);
    ASSERT_TRUE(make_directories(folder.file("made/here")));
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(write_text_file(path, std::string(static_cast<size_t>(2000 + i), static_cast<char>('0' + i))));
      disk.mark(i);
    }
  }
  int states = 0, without = 0;
  for (size_t count = 0; count <= disk.log().size(); ++count)
    for (uint64_t seed = 0; seed < 20; ++seed, ++states) {
      const PowerLoss after(disk.log(), count, seed);
      const auto names = after.names(folder.file("made/here"));
      const auto found = names.find("a");
      without += found == names.end();
      ASSERT_TRUE(found != names.end() || after.marked() < 0) << "after " << count;
      if (found == names.end()) continue;
      const int version = found->second.empty() ? -1 : found->second[0] - '0';
      ASSERT_GE(version, after.marked()) << "after " << count;
      ASSERT_EQ(found->second, std::string(static_cast<size_t>(2000 + version), static_cast<char>('0' + version)));
    }
  EXPECT_GE(states, 400);
  EXPECT_GT(without, 0) << "nothing was ever lost: the log is not replayed";
  std::vector<std::string> synced;
  for (const auto& o : disk.log())
    if (o.kind == FaultyDisk::Operation::sync_folder) synced.push_back(o.path);
  EXPECT_THAT(synced, testing::IsSupersetOf({folder.path(), folder.file("made")})) << "names of new folders";
}

// Two that fetch the same file: who waited for the lock must not write into what the other has put into place.
TEST(OutputFile, a_file_that_was_committed_meanwhile_is_not_resumed) {
  TemporaryFolder folder;
  auto first = OutputFile::resume(folder.file("a"));
  ASSERT_TRUE(first && first->write("all of it"));
  EXPECT_THAT(OutputFile::resume(folder.file("a")).error().message, HasSubstr("another process is writing it"));
  ASSERT_TRUE(first->commit());
  EXPECT_EQ(file_bytes(folder.file("a")), "all of it");
}

TEST(AppendFile, follows_no_link) {
  TemporaryFolder folder;
  const std::string precious = folder.write("precious", "mine");
  std::filesystem::create_symlink(precious, folder.file("events.jsonl"));
  const auto log = AppendFile::open(folder.file("events.jsonl"), false);
  ASSERT_FALSE(log);
  EXPECT_THAT(log.error().message, HasSubstr("symbolic link"));
  EXPECT_EQ(file_bytes(precious), "mine");
}

}  // namespace
}  // namespace thimble
