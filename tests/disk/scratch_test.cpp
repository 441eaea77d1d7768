#include "disk/scratch.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <functional>
#include <random>
#include <thread>

#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;
using QueueFactory = std::function<Result<std::unique_ptr<IoQueue>>(int file)>;

constexpr int64_t kMebibyte = 1 << 20;

#ifdef THIMBLE_EVERY_CALL
constexpr int kFlips = 2500;
#else
constexpr int kFlips = 50;
#endif

// Aligned memory filled with what follows from `seed`.
class Buffer {
 public:
  explicit Buffer(int64_t bytes, uint32_t seed = 0)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(kDiskAlignment, static_cast<size_t>(bytes))), &std::free),
        bytes_(bytes) {
    for (int64_t i = 0; i < bytes; ++i) {
      seed = seed * 1664525 + 1013904223;
      memory_.get()[i] = static_cast<std::byte>(seed >> 24);
    }
  }
  std::span<std::byte> span() const { return {memory_.get(), static_cast<size_t>(bytes_)}; }
  bool operator==(const Buffer& other) const { return std::ranges::equal(span(), other.span()); }

 private:
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
  int64_t bytes_;
};

std::unique_ptr<Scratch> made(Result<std::unique_ptr<Scratch>> scratch) {
  EXPECT_TRUE(scratch) << (scratch ? "" : scratch.error().message);
  return scratch ? *std::move(scratch) : nullptr;
}

::testing::AssertionResult succeeds(const Result<void>& result) {
  if (result) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << result.error().message;
}

// A real queue of which `fault` decides what becomes of a request: it may move fewer bytes, or answer without the disk.
class FaultyQueue final : public IoQueue {
 public:
  struct Fault {
    int64_t moves = -1;   // bytes that are really moved; -1: all
    int64_t answers = 0;  // the result reported where nothing is moved, or where it lies
    bool lies = false;
  };
  using Decide = std::function<Fault(const IoRequest& request, int number)>;  // numbers count from 1

  FaultyQueue(std::unique_ptr<IoQueue> real, Decide decide, int* in_flight)
      : real_(std::move(real)), decide_(std::move(decide)), in_flight_(in_flight) {}
  std::string_view name() const override { return "faulty"; }
  int depth() const override { return 8; }

  void submit(const IoRequest& request) noexcept override {
    EXPECT_LE(++*in_flight_, depth());
    const Fault fault = decide_(request, ++number_);
    if (fault.moves == 0) {
      answered_.push_back({request.tag, fault.answers});
      return;
    }
    if (fault.lies) lies_.emplace_back(request.tag, fault.answers);
    IoRequest less = request;
    if (fault.moves > 0) less.memory = less.memory.first(std::min<size_t>(less.memory.size(), fault.moves));
    real_->submit(less);
  }

  IoCompletion wait() noexcept override {
    --*in_flight_;
    if (!answered_.empty()) {
      const IoCompletion completion = answered_.front();
      answered_.pop_front();
      return completion;
    }
    IoCompletion completion = real_->wait();
    std::erase_if(lies_, [&](const auto& lie) {
      if (lie.first == completion.tag) completion.result = lie.second;
      return lie.first == completion.tag;
    });
    return completion;
  }

 private:
  std::unique_ptr<IoQueue> real_;
  Decide decide_;
  int* in_flight_;
  int number_ = 0;
  std::deque<IoCompletion> answered_;
  std::vector<std::pair<uint64_t, int64_t>> lies_;
};

class ScratchTest : public ::testing::Test {
 protected:
  std::unique_ptr<Scratch> create(int64_t bytes, QueueFactory queue = nullptr) {
    return made(Scratch::create({.folder = folder_.path(), .bytes = bytes, .queue = std::move(queue)}, threads_));
  }
  std::unique_ptr<Scratch> create_faulty(int64_t bytes, FaultyQueue::Decide decide) {
    return create(bytes, [this, decide](int file) -> Result<std::unique_ptr<IoQueue>> {
      file_ = file;
      return std::make_unique<FaultyQueue>(TRY(thread_queue(file)), decide, &in_flight_);
    });
  }

  TemporaryFolder folder_;
  Threads threads_{2};
  int file_ = -1;  // the scratch file made last
  int in_flight_ = 0;
};

struct Way {
  const char* name;
  Result<std::unique_ptr<IoQueue>> (*queue)(int file);
  bool direct;
};

class OverEachQueue : public ScratchTest, public ::testing::WithParamInterface<Way> {
 protected:
  void SetUp() override {
    const auto queue = GetParam().queue(-1);
    if (!queue) GTEST_SKIP() << queue.error().message;
  }
  std::unique_ptr<Scratch> create_over(int64_t bytes) {
    return create(bytes, [this](int file) {
      file_ = file;
      if (!GetParam().direct) ::fcntl(file, F_SETFL, ::fcntl(file, F_GETFL) & ~O_DIRECT);
      return GetParam().queue(file);
    });
  }
};

TEST_P(OverEachQueue, what_is_written_is_read) {
  const auto scratch = create_over(8 * kMebibyte);
  int64_t moved = 0;
  uint32_t seed = 1;
  for (const int64_t pages : {1, 3, 4, 5, 127, 128, 129, 401, 1024}) {
    const Buffer from(pages * kDiskAlignment, ++seed);
    const Buffer to(pages * kDiskAlignment);
    const int64_t offset = (pages % 7) * kChecksumBlock;
    ASSERT_TRUE(succeeds(scratch->write(offset, from.span())));
    ASSERT_TRUE(succeeds(scratch->read(offset, to.span())));
    EXPECT_TRUE(from == to) << pages << " pages";
    moved += pages * kDiskAlignment;
  }
  EXPECT_EQ(scratch->bytes_written(), moved);
  EXPECT_EQ(scratch->bytes_read(), moved);
}

TEST_P(OverEachQueue, nothing_to_move_is_soon_moved) {
  const auto scratch = create_over(kMebibyte);
  EXPECT_TRUE(succeeds(scratch->write(kMebibyte, {})));
  EXPECT_TRUE(succeeds(scratch->read(0, {})));
}

// 512 transfers, 1024 parts: far more than any queue holds; finished in another order than begun.
TEST_P(OverEachQueue, holds_many_transfers) {
  constexpr int64_t kBytes = 17 * kDiskAlignment, kStride = 5 * kChecksumBlock;
  const auto scratch = create_over(Scratch::kMostTransfers * kStride);
  std::vector<Buffer> from, to;
  std::vector<int> transfers;
  for (int i = 0; i < Scratch::kMostTransfers; ++i) {
    from.emplace_back(kBytes, i);
    to.emplace_back(kBytes);
  }
  for (int i = 0; i < Scratch::kMostTransfers; ++i) {
    transfers.push_back(scratch->begin_write(i * kStride, from[i].span()));
  }
  for (int i = Scratch::kMostTransfers - 1; i >= 0; --i) ASSERT_TRUE(succeeds(scratch->finish(transfers[i])));
  for (int i = 0; i < Scratch::kMostTransfers; ++i) {
    transfers[i] = scratch->begin_read(i * kStride, to[i].span());
  }
  for (const int transfer : transfers) ASSERT_TRUE(succeeds(scratch->finish(transfer)));
  for (int i = 0; i < Scratch::kMostTransfers; ++i) EXPECT_TRUE(from[i] == to[i]) << i;
}

TEST_P(OverEachQueue, holds_transfers_of_more_parts_than_the_queue) {
  constexpr int64_t kBytes = 40 * kMebibyte;
  const auto scratch = create_over(2 * kBytes);
  const Buffer first(kBytes, 1), second(kBytes, 2), to(kBytes);
  const int one = scratch->begin_write(0, first.span());
  const int two = scratch->begin_write(kBytes, second.span());
  ASSERT_TRUE(succeeds(scratch->finish(two)));
  ASSERT_TRUE(succeeds(scratch->finish(one)));
  ASSERT_TRUE(succeeds(scratch->read(0, to.span())));
  EXPECT_TRUE(to == first);
  ASSERT_TRUE(succeeds(scratch->read(kBytes, to.span())));
  EXPECT_TRUE(to == second);
}

// Parts that waited for the queue follow those that are through, though nobody finished anything.
TEST_P(OverEachQueue, goes_on_at_every_call) {
  constexpr int64_t kBytes = 80 * kMebibyte;
  const Buffer from(kBytes, 1);
  const auto scratch = create_over(kBytes);
  const int transfer = scratch->begin_write(0, from.span());
  const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (scratch->bytes_written() < kBytes && std::chrono::steady_clock::now() < patience) {
    ASSERT_TRUE(succeeds(scratch->read(0, {})));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(scratch->bytes_written(), kBytes);
  EXPECT_TRUE(succeeds(scratch->finish(transfer)));
}

TEST_P(OverEachQueue, waits_for_what_is_in_flight_when_destroyed) {
  const Buffer from(64 * kMebibyte, 1);
  const auto scratch = create_over(64 * kMebibyte);
  scratch->begin_write(0, from.span());
}

TEST_P(OverEachQueue, leaves_nothing_in_the_page_cache) {
  const auto scratch = create_over(4 * kMebibyte);
  const Buffer from(4 * kMebibyte, 1), to(4 * kMebibyte);
  ASSERT_TRUE(succeeds(scratch->write(0, from.span())));
  ASSERT_TRUE(succeeds(scratch->read(0, to.span())));
  EXPECT_THAT(scratch->description(), HasSubstr(GetParam().direct ? "" : "through the page cache"));
  void* const mapped = ::mmap(nullptr, 4 * kMebibyte, PROT_READ, MAP_SHARED, file_, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  std::vector<unsigned char> resident(4 * kMebibyte / kDiskAlignment);
  ASSERT_EQ(::mincore(mapped, 4 * kMebibyte, resident.data()), 0);
  EXPECT_EQ(std::ranges::count_if(resident, [](unsigned char page) { return (page & 1) != 0; }), 0);
  ::munmap(mapped, 4 * kMebibyte);
}

TEST_P(OverEachQueue, says_which_block_was_damaged) {
  const auto scratch = create_over(8 * kMebibyte);
  const Buffer from(4 * kMebibyte, 1), to(4 * kMebibyte);
  ASSERT_TRUE(succeeds(scratch->write(kMebibyte, from.span())));
  const Buffer damage(kDiskAlignment, 7);
  constexpr int64_t kDamaged = kMebibyte + 9 * kChecksumBlock;
  ASSERT_EQ(::pwrite(file_, damage.span().data(), kDiskAlignment, kDamaged + kDiskAlignment), kDiskAlignment);
  const auto read = scratch->read(kMebibyte, to.span());
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::io);
  EXPECT_THAT(read.error().message, HasSubstr("the block at " + std::to_string(kDamaged) + " is not what was written"));
  EXPECT_THAT(read.error().message, HasSubstr(folder_.path()));
  ASSERT_TRUE(succeeds(scratch->write(kMebibyte, from.span())));
  EXPECT_TRUE(succeeds(scratch->read(kMebibyte, to.span())));
}

TEST_P(OverEachQueue, every_bit_that_flips_is_noticed) {
  constexpr int64_t kBytes = 4 * kChecksumBlock;
  const auto scratch = create_over(kBytes);
  const Buffer from(kBytes, 1), to(kBytes);
  ASSERT_TRUE(succeeds(scratch->write(0, from.span())));
  const auto flip = [this](int64_t bit) {
    const Buffer page(kDiskAlignment);  // direct transfers move whole ones
    const int64_t begin = bit / 8 / kDiskAlignment * kDiskAlignment;
    ASSERT_EQ(::pread(file_, page.span().data(), kDiskAlignment, begin), kDiskAlignment);
    page.span()[static_cast<size_t>(bit / 8 - begin)] ^= std::byte{1} << bit % 8;
    ASSERT_EQ(::pwrite(file_, page.span().data(), kDiskAlignment, begin), kDiskAlignment);
  };
  std::mt19937_64 random(1);
  for (int i = 0; i < kFlips; ++i) {
    const auto bit = static_cast<int64_t>(random() % (8 * kBytes));
    flip(bit);
    EXPECT_FALSE(scratch->read(0, to.span())) << "bit " << bit;
    flip(bit);
  }
  EXPECT_TRUE(succeeds(scratch->read(0, to.span())));
  EXPECT_EQ(to, from);
}

TEST_P(OverEachQueue, takes_no_more_memory_than_it_says) {
  const size_t before = ::mallinfo2().uordblks;
  const auto scratch = create_over(64 * kMebibyte);
  EXPECT_LE(::mallinfo2().uordblks - before, static_cast<size_t>(Scratch::memory_bytes(64 * kMebibyte)));
  const Buffer memory(40 * kMebibyte, 1);
  const size_t with_memory = ::mallinfo2().uordblks;
  const int transfer = scratch->begin_write(0, memory.span());
  EXPECT_EQ(::mallinfo2().uordblks, with_memory);
  ASSERT_TRUE(succeeds(scratch->finish(transfer)));
  EXPECT_EQ(::mallinfo2().uordblks, with_memory);
}

INSTANTIATE_TEST_SUITE_P(Queues, OverEachQueue,
                         ::testing::Values(Way{"io_uring", io_uring_queue, true}, Way{"thread", thread_queue, true},
                                           Way{"io_uring_cached", io_uring_queue, false},
                                           Way{"thread_cached", thread_queue, false}),
                         [](const auto& info) { return info.param.name; });

TEST_F(ScratchTest, is_of_this_process_alone) {
  const std::string folder = folder_.file("here");
  ASSERT_TRUE(std::filesystem::create_directory(folder));
  struct stat status {};
  const auto look = [&](int file) {
    EXPECT_EQ(::fstat(file, &status), 0);
    return thread_queue(file);
  };
  const auto scratch = made(Scratch::create({.folder = folder, .bytes = kMebibyte, .queue = look}, threads_));
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  EXPECT_EQ(status.st_nlink, 0u);
  EXPECT_EQ(status.st_size, kMebibyte);
  EXPECT_GE(status.st_blocks * 512, kMebibyte);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
}

TEST_F(ScratchTest, chooses_a_queue) {
  const std::string description = create(kMebibyte)->description();
  EXPECT_THAT(description, ::testing::AnyOf(HasSubstr("io_uring, "), HasSubstr("threads, ")));
}

TEST_F(ScratchTest, does_not_check_what_was_never_written) {
  const auto scratch = create(kMebibyte);
  const Buffer to(kMebibyte, 1);
  EXPECT_TRUE(succeeds(scratch->read(0, to.span())));
}

TEST_F(ScratchTest, refuses_a_folder_in_memory) {
  struct statfs system {};
  if (::statfs("/dev/shm", &system) != 0 || system.f_type != TMPFS_MAGIC) GTEST_SKIP() << "/dev/shm is not tmpfs";
  const auto scratch = Scratch::create({.folder = "/dev/shm", .bytes = kMebibyte}, threads_);
  ASSERT_FALSE(scratch);
  EXPECT_EQ(scratch.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(scratch.error().message, HasSubstr("/dev/shm"));
  EXPECT_THAT(scratch.error().message, HasSubstr("give --scratch a folder on a disk"));
}

TEST_F(ScratchTest, refuses_a_size_it_can_not_take) {
  const auto huge = Scratch::create({.folder = folder_.path(), .bytes = int64_t{1} << 60}, threads_);
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, ErrorCode::io);
  EXPECT_THAT(huge.error().message, HasSubstr(folder_.path()));
  EXPECT_THAT(huge.error().message, HasSubstr("needs 1152921504607 MB, and "));
  for (const int64_t bytes : {int64_t{0}, int64_t{-4096}, int64_t{4097}}) {
    const auto odd = Scratch::create({.folder = folder_.path(), .bytes = bytes}, threads_);
    ASSERT_FALSE(odd);
    EXPECT_EQ(odd.error().code, ErrorCode::invalid_argument);
  }
}

TEST_F(ScratchTest, refuses_a_size_over_the_limit_of_the_process) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit low{.rlim_cur = kMebibyte, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &low), 0);
  const auto scratch = Scratch::create({.folder = folder_.path(), .bytes = 4 * kMebibyte}, threads_);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_FALSE(scratch);
  EXPECT_THAT(scratch.error().message, HasSubstr("ulimit -f"));
}

TEST_F(ScratchTest, refuses_a_file_for_a_folder) {
  const auto scratch = Scratch::create({.folder = folder_.write("a", "text"), .bytes = kMebibyte}, threads_);
  ASSERT_FALSE(scratch);
  EXPECT_EQ(scratch.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(scratch.error().message, HasSubstr("Not a directory"));
}

TEST_F(ScratchTest, makes_no_folder) {
  const std::string missing = folder_.file("missing");
  const auto scratch = Scratch::create({.folder = missing, .bytes = kMebibyte}, threads_);
  ASSERT_FALSE(scratch);
  EXPECT_EQ(scratch.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(scratch.error().message, HasSubstr("a folder on a disk that exists"));
  EXPECT_FALSE(std::filesystem::exists(missing));
}

TEST_F(ScratchTest, passes_on_the_error_of_its_queue) {
  const auto none = [](int) -> Result<std::unique_ptr<IoQueue>> { return fail(ErrorCode::cancelled, "no queue"); };
  EXPECT_EQ(Scratch::create({.folder = folder_.path(), .bytes = kMebibyte, .queue = none}, threads_).error().message,
            "no queue");
}

TEST_F(ScratchTest, goes_on_after_short_transfers) {
  const Buffer from(3 * kMebibyte, 1), to(3 * kMebibyte);
  const auto scratch = create_faulty(4 * kMebibyte, [](const IoRequest& request, int number) -> FaultyQueue::Fault {
    const auto bytes = static_cast<int64_t>(request.memory.size());
    if (number % 5 == 1) return {.moves = 0, .answers = number % 2 ? -EINTR : -EAGAIN};
    if (number % 5 == 2 && bytes > 8192) return {.moves = 8192, .answers = 5000, .lies = true};
    if (number % 5 == 3) return {.moves = 4096};
    if (number % 5 == 4 && bytes > 4096) return {.moves = 4096, .answers = 100, .lies = true};
    return {.moves = 65536};
  });
  ASSERT_TRUE(succeeds(scratch->write(kMebibyte, from.span())));
  ASSERT_TRUE(succeeds(scratch->read(kMebibyte, to.span())));
  EXPECT_TRUE(from == to);
  EXPECT_EQ(scratch->bytes_written(), 3 * kMebibyte);
}

TEST_F(ScratchTest, names_the_part_that_failed_and_goes_on) {
  const Buffer from(8 * kMebibyte, 1), to(8 * kMebibyte);
  int failing = 3;
  const auto scratch = create_faulty(8 * kMebibyte, [&](const IoRequest&, int number) -> FaultyQueue::Fault {
    return number == failing ? FaultyQueue::Fault{.moves = 0, .answers = -EIO} : FaultyQueue::Fault{};
  });
  const auto write = scratch->write(0, from.span());
  ASSERT_FALSE(write);
  EXPECT_EQ(in_flight_, 0);  // the memory is the caller's again
  EXPECT_EQ(write.error().code, ErrorCode::io);
  EXPECT_THAT(write.error().message, HasSubstr("scratch file in " + folder_.path() +
                                               ": writing 524288 bytes at 1048576: Input/output error; "));
  EXPECT_THAT(write.error().message, HasSubstr("give --scratch a folder on another disk"));
  failing = -1;
  ASSERT_TRUE(succeeds(scratch->write(0, from.span())));
  ASSERT_TRUE(succeeds(scratch->read(0, to.span())));
  EXPECT_TRUE(from == to);
}

TEST_F(ScratchTest, fails_one_transfer_and_not_its_neighbours) {
  constexpr int64_t kBytes = 4 * kMebibyte;
  const Buffer from(kBytes, 1);
  std::vector<Buffer> to;
  const auto scratch = create_faulty(3 * kBytes, [](const IoRequest& request, int) -> FaultyQueue::Fault {
    const bool hit = !request.write && request.offset >= kBytes + kMebibyte && request.offset < 2 * kBytes;
    return hit ? FaultyQueue::Fault{.moves = 0, .answers = -EIO} : FaultyQueue::Fault{};
  });
  std::vector<int> transfers;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(succeeds(scratch->write(i * kBytes, from.span())));
    to.emplace_back(kBytes);
  }
  for (int i = 0; i < 3; ++i) transfers.push_back(scratch->begin_read(i * kBytes, to[i].span()));
  EXPECT_TRUE(succeeds(scratch->finish(transfers[0])));
  EXPECT_THAT(scratch->finish(transfers[1]).error().message, HasSubstr("reading 524288 bytes at 5242880"));
  EXPECT_TRUE(succeeds(scratch->finish(transfers[2])));
  EXPECT_TRUE(to[2] == from);
  EXPECT_EQ(in_flight_, 0);
}

TEST_F(ScratchTest, tells_a_full_disk_and_an_early_end) {
  const Buffer memory(kMebibyte, 1);
  int64_t answer = 0;
  const auto scratch = create_faulty(
      kMebibyte, [&](const IoRequest&, int) -> FaultyQueue::Fault { return {.moves = 0, .answers = answer}; });
  EXPECT_THAT(scratch->write(0, memory.span()).error().message, HasSubstr("as if it were full"));
  EXPECT_THAT(scratch->read(0, memory.span()).error().message, HasSubstr("the file ended before them"));
  answer = -ENOSPC;
  EXPECT_THAT(scratch->write(0, memory.span()).error().message,
              HasSubstr("No space left on device; free some space there"));
  answer = -EAGAIN;
  EXPECT_THAT(scratch->write(0, memory.span()).error().message, HasSubstr("Resource temporarily unavailable"));
  EXPECT_EQ(scratch->bytes_written(), 0);
}

}  // namespace
}  // namespace thimble
