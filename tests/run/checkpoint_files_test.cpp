// Checkpoints on disks that fail, forget and decay.
#include "run/checkpoint_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "faulty_disk.h"
#include "run/resume.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

#ifdef THIMBLE_EVERY_CALL
constexpr int kFlips = 10'000;
#else
constexpr int kFlips = 160;
#endif

// What a run would save after so many steps: data of a little more than two blocks.
std::string data_of(int64_t step, size_t bytes) {
  std::mt19937_64 random(static_cast<uint64_t>(step));
  std::string data(bytes / 8 * 8, '\0');
  for (size_t at = 0; at < data.size(); at += 8) {
    const uint64_t word = random();
    std::memcpy(data.data() + at, &word, 8);
  }
  return data;
}

struct Saving {
  std::string folder;
  size_t bytes = 4096;
  int64_t keep = 2;
  std::vector<std::string> damaged;

  Result<void> save(int64_t step) const {
    const std::string data = data_of(step, bytes);
    const auto half = static_cast<int64_t>(data.size() / 8);
    auto writer = TRY(CheckpointWriter::create(folder, {{"a", "F32", Shape{half}}, {"b", "F32", Shape{half}}},
                                               {{"step", std::to_string(step)}}));
    CHECK_OK(writer.write(std::as_bytes(std::span(data).first(data.size() / 3))));
    CHECK_OK(writer.write(std::as_bytes(std::span(data).subspan(data.size() / 3))));
    return writer.finish({keep, damaged});
  }
  // The step of what would be resumed, whose data is what was saved; -1: nothing is there to resume.
  int64_t resumed(std::string* notes = nullptr) const {
    const auto last = last_good_checkpoint(folder, [&](const std::string& note) {
      if (notes) *notes += note + "\n";
    });
    if (!last) {
      if (notes) *notes += last.error().message;
      return -1;
    }
    const auto step = metadata_number(last->file, "step");
    EXPECT_TRUE(step);
    const SafetensorsEntry& first = last->file.entries().front();
    std::string data(bytes / 8 * 8, '\0');
    EXPECT_TRUE(last->file.file().read(first.offset, std::as_writable_bytes(std::span(data))));
    EXPECT_EQ(data, data_of(*step, bytes));
    return *step;
  }
};

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::ranges::sort(names);
  return names;
}

void flip(const std::string& path, uint64_t bit) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(bit / 8));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(bit / 8));
  file.put(static_cast<char>(byte ^ (1 << bit % 8)));
}

TEST(CheckpointFiles, as_many_as_wanted_stay) {
  TemporaryFolder folder;
  Saving saving{.folder = folder.path()};
  for (const int64_t step : {5, 9, 10, 100}) ASSERT_TRUE(saving.save(step));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("checkpoint-10.safetensors", "checkpoint.safetensors"));
  EXPECT_EQ(saving.resumed(), 100);
  ASSERT_TRUE(saving.save(100));  // with an evaluation, say
  EXPECT_THAT(names_in(folder.path()), ElementsAre("checkpoint-10.safetensors", "checkpoint.safetensors"));
  saving.keep = 4;
  for (const int64_t step : {101, 102, 103}) ASSERT_TRUE(saving.save(step));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("checkpoint-100.safetensors", "checkpoint-101.safetensors",
                                                   "checkpoint-102.safetensors", "checkpoint.safetensors"));
  saving.keep = 1;
  ASSERT_TRUE(saving.save(104));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("checkpoint.safetensors"));
}

TEST(CheckpointFiles, hashes_are_of_a_mebibyte_at_most) {
  TemporaryFolder folder;
  const Saving saving{.folder = folder.path(), .bytes = 2'500'000};
  ASSERT_TRUE(saving.save(7));
  EXPECT_EQ(saving.resumed(), 7);
  const auto file = SafetensorsFile::open(folder.file("checkpoint.safetensors"));
  ASSERT_TRUE(file);
  EXPECT_EQ(file->entries().back().bytes, 8u * (1 + 3 + 1));
}

// Wherever the bit lies: length, header, data, hashes.
TEST(CheckpointFiles, every_bit_that_flips_is_noticed) {
  TemporaryFolder folder;
  const Saving saving{.folder = folder.path(), .bytes = 1'100'000};
  ASSERT_TRUE(saving.save(3));
  const std::string path = folder.file("checkpoint.safetensors");
  const std::string whole = file_bytes(path);
  const uint64_t bits = whole.size() * 8, header = 8 * 400, end = 8 * 40;
  std::mt19937_64 random(1);
  for (int i = 0; i < kFlips; ++i) {
    const uint64_t bit = i % 4 == 0 ? random() % header : i % 4 == 1 ? bits - 1 - random() % end : random() % bits;
    flip(path, bit);
    EXPECT_EQ(saving.resumed(), -1) << "bit " << bit;
    flip(path, bit);
  }
  EXPECT_EQ(file_bytes(path), whole);
  EXPECT_EQ(saving.resumed(), 3);
}

TEST(CheckpointFiles, one_that_is_cut_short_or_longer_is_noticed) {
  TemporaryFolder folder;
  const Saving saving{.folder = folder.path()};
  ASSERT_TRUE(saving.save(3));
  const std::string path = folder.file("checkpoint.safetensors"), whole = file_bytes(path);
  for (const size_t bytes : {size_t{0}, size_t{7}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    folder.write("checkpoint.safetensors", whole.substr(0, bytes));
    EXPECT_EQ(saving.resumed(), -1) << bytes;
  }
  folder.write("checkpoint.safetensors", whole + "x");
  EXPECT_EQ(saving.resumed(), -1);
}

TEST(CheckpointFiles, the_last_good_one_is_used_and_the_damaged_ones_are_told_and_go) {
  TemporaryFolder folder;
  Saving saving{.folder = folder.path(), .keep = 3};
  for (const int64_t step : {1, 2, 3}) ASSERT_TRUE(saving.save(step));
  flip(folder.file("checkpoint.safetensors"), 8 * 2000);
  flip(folder.file("checkpoint-2.safetensors"), 8 * 10);  // in the header
  std::string notes;
  EXPECT_EQ(saving.resumed(&notes), 1);
  EXPECT_THAT(notes, HasSubstr(folder.file("checkpoint.safetensors") +
                               ": this checkpoint is damaged: its data is not what was written, from MiB 0 on; the one "
                               "before it is used, " +
                               folder.file("checkpoint-1.safetensors")));
  EXPECT_THAT(notes, HasSubstr("checkpoint-2.safetensors"));
  saving.damaged = last_good_checkpoint(folder.path(), [](const std::string&) {})->damaged;
  EXPECT_EQ(saving.damaged.size(), 2u);
  ASSERT_TRUE(saving.save(2));
  EXPECT_THAT(names_in(folder.path()), ElementsAre("checkpoint-1.safetensors", "checkpoint.safetensors"));
  EXPECT_EQ(saving.resumed(), 2);
}

TEST(CheckpointFiles, where_none_is_whole_that_is_said) {
  TemporaryFolder folder;
  const Saving saving{.folder = folder.path()};
  std::string notes;
  EXPECT_EQ(saving.resumed(&notes), -1);
  EXPECT_THAT(notes, HasSubstr("checkpoint.safetensors: No such file"));
  for (const int64_t step : {1, 2}) ASSERT_TRUE(saving.save(step));
  for (const std::string& path : checkpoints_in(folder.path())) flip(path, 8 * 2000);
  notes.clear();
  EXPECT_EQ(saving.resumed(&notes), -1);
  EXPECT_THAT(notes, HasSubstr("nor is one of those before it whole; begin anew, without --resume"));
}

// Whatever call fails while a checkpoint is saved, an error says so and the one before it is there; and where the
// failure passes, the next save works.
TEST(CheckpointFiles, a_fault_at_every_call_of_a_save) {
  TemporaryFolder folder;
  const Saving saving{.folder = folder.path()};
  for (const int64_t step : {1, 2}) ASSERT_TRUE(saving.save(step));
  int64_t calls = 0;
  {
    FaultyDisk disk(folder.path());
    const OtherFileSystem other(disk);
    ASSERT_TRUE(saving.save(3));
    calls = disk.calls();
  }
  EXPECT_GE(calls, 10);
  const std::vector<DiskFault> faults = {{.error = EIO},    {.error = ENOSPC, .lasts = true},
                                         {.error = EDQUOT}, {.error = EIO, .half = true},
                                         {.error = EINTR},  {.half = true}};
  for (const DiskFault& fault : faults)
    for (int64_t at = 0; at < calls; ++at) {
      TemporaryFolder here;
      Saving again{.folder = here.path()};
      {
        FaultyDisk sound(here.path());  // which does not wait
        const OtherFileSystem other(sound);
        for (const int64_t step : {1, 2}) ASSERT_TRUE(again.save(step));
      }
      DiskFault strike = fault;
      strike.at = at;
      Result<void> saved;
      {
        FaultyDisk disk(here.path(), strike);
        const OtherFileSystem other(disk);
        saved = again.save(3);
        EXPECT_EQ(disk.synced_again(), "") << disk.struck_at();
        if (fault.error == EINTR || fault.error == 0) {
          EXPECT_TRUE(saved) << disk.struck_at();
        }
      }
      const int64_t found = again.resumed();
      EXPECT_GE(found, saved ? 3 : 2);
      ASSERT_TRUE(again.save(4));
      EXPECT_EQ(again.resumed(), 4);
    }
}

// 1,000 states that a loss of power could leave: what was acknowledged is there, and whole.
TEST(CheckpointFiles, power_that_is_lost_loses_no_acknowledged_checkpoint) {
  for (const int64_t keep : {1, 2}) {
    TemporaryFolder folder;
    const Saving saving{.folder = folder.path(), .keep = keep};
    FaultyDisk disk(folder.path());
    {
      const OtherFileSystem other(disk);
      for (int64_t step = 1; step <= 5; ++step) {
        ASSERT_TRUE(saving.save(step));
        disk.mark(step);
      }
    }
    int states = 0, partly = 0;
    for (size_t count = 0; count <= disk.log().size(); ++count)
      for (uint64_t seed = 0; seed < 12; ++seed, ++states) {
        const PowerLoss after(disk.log(), count, seed);
        TemporaryFolder left;
        for (const auto& [name, content] : after.names(folder.path())) {
          left.write(name, content);
          partly += name.ends_with(".part");
        }
        const int64_t found = Saving{.folder = left.path()}.resumed();
        ASSERT_GE(found, after.marked()) << "after " << count << ", seed " << seed;
      }
    EXPECT_GE(states, 500);
    EXPECT_GT(partly, 0);
  }
}

}  // namespace
}  // namespace thimble
