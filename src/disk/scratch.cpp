#include "disk/scratch.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace thimble {
namespace {

constexpr int64_t kPartBytes = 512 << 10;
constexpr int kMostParts = 4096;  // of all unfinished transfers: 2 GiB
constexpr int64_t kHashedTogether = 8;

double megabytes(int64_t bytes) { return static_cast<double>(bytes) * 1e-6; }

Result<void> check_folder(const std::string& folder, int64_t bytes) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  struct statfs kind;
  if (statfs(folder.c_str(), &kind) != 0)
    return fail(ErrorCode::io, "scratch folder {}: {}; give --scratch another folder", folder, std::strerror(errno));
  if (kind.f_type == TMPFS_MAGIC || kind.f_type == RAMFS_MAGIC)
    return fail(ErrorCode::invalid_argument,
                "scratch folder {} is in memory (tmpfs): what waits there would count as memory after all; give "
                "--scratch a folder on a disk, or none",
                folder);
  struct statvfs space;
  if (statvfs(folder.c_str(), &space) != 0)
    return fail(ErrorCode::io, "scratch folder {}: {}; give --scratch another folder", folder, std::strerror(errno));
  const double free = static_cast<double>(space.f_bavail) * static_cast<double>(space.f_frsize);
  if (free < static_cast<double>(bytes))
    return fail(ErrorCode::io,
                "scratch folder {}: {:.1f} MB are needed, {:.1f} MB are free; give --scratch a folder with more room, "
                "or more --memory",
                folder, megabytes(bytes), free * 1e-6);
  return {};
}

// A file without a name.
int open_unnamed(const std::string& folder, int flags) {
  const int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC | flags, 0600);
  if (file >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)) return file;
  std::string name = folder + "/.thimble-scratch.XXXXXX";
  const int named = mkostemp(name.data(), O_CLOEXEC | flags);
  if (named >= 0) unlink(name.c_str());
  return named;
}

}  // namespace

struct Scratch::Part {
  int transfer = 0;
  int64_t offset = 0;  // in the file
  std::span<std::byte> memory;
};

struct Scratch::Transfer {
  int64_t offset = 0;
  std::span<std::byte> memory;
  bool write = false;
  int unfinished = 0;  // parts
  int error = 0;       // errno of the first part that failed
  int64_t failed_at = 0;
};

Scratch::Scratch(std::string folder, int64_t bytes, Threads& threads)
    : folder_(std::move(folder)),
      bytes_(bytes),
      threads_(threads),
      checksums_(static_cast<size_t>((bytes + kChecksumBlock - 1) / kChecksumBlock), 0),
      transfers_(kMostTransfers),
      parts_(kMostParts),
      waiting_(kMostParts) {
  for (int i = kMostTransfers; i-- > 0;) free_transfers_.push_back(i);
  for (int i = kMostParts; i-- > 0;) free_parts_.push_back(i);
}

int64_t Scratch::memory_bytes(int64_t file_bytes) {
  constexpr int64_t kQueue = 64 << 10;
  return (file_bytes / kChecksumBlock + 1) * 8 + kMostTransfers * static_cast<int64_t>(sizeof(Transfer) + 4) +
         kMostParts * static_cast<int64_t>(sizeof(Part) + 8) + kQueue;
}

Result<void> Scratch::open(bool& direct) {
  file_ = open_unnamed(folder_, O_DIRECT);
  direct = file_ >= 0;
  if (!direct && errno == EINVAL) file_ = open_unnamed(folder_, 0);
  if (file_ < 0)
    return fail(ErrorCode::io, "scratch folder {}: making a file: {}; give --scratch another folder", folder_,
                std::strerror(errno));
  const int64_t whole = (bytes_ + kDiskAlignment - 1) / kDiskAlignment * kDiskAlignment;
  if (const int error = posix_fallocate(file_, 0, whole); error != 0 && error != EOPNOTSUPP && error != EINVAL)
    return fail(ErrorCode::io, "scratch folder {}: taking {:.1f} MB of disk: {}; give --scratch another folder, or more --memory",
                folder_, megabytes(whole), std::strerror(error));
  return {};
}

Result<std::unique_ptr<Scratch>> Scratch::create(const ScratchOptions& options, Threads& threads) {
  CHECK_OK(check_folder(options.folder, options.bytes));
  std::unique_ptr<Scratch> scratch(new Scratch(options.folder, options.bytes, threads));
  CHECK_OK(scratch->open(scratch->direct_));
  if (options.queue) {
    scratch->queue_ = TRY(options.queue(scratch->file_));
    return scratch;
  }
  if (auto ring = io_uring_queue(scratch->file_))
    scratch->queue_ = std::move(*ring);
  else
    scratch->queue_ = TRY(thread_queue(scratch->file_));
  return scratch;
}

Scratch::~Scratch() {
  while (queue_ && in_flight_ > 0) complete_one();
  queue_.reset();
  if (file_ >= 0) close(file_);
}

std::string Scratch::description() const {
  return std::string(queue_->name()) + (direct_ ? ", direct" : ", through the page cache");
}
int64_t Scratch::bytes_read() const { return read_; }
int64_t Scratch::bytes_written() const { return written_; }

// Calls each(block, checksum) for the blocks of `bytes`, on all threads; a checksum is never 0.
template <class Each>
void Scratch::hash(std::span<const std::byte> bytes, Each each) noexcept {
  const auto size = static_cast<int64_t>(bytes.size());
  threads_.split((size + kChecksumBlock - 1) / kChecksumBlock, kHashedTogether, [&](int64_t begin, int64_t end, int) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t at = block * kChecksumBlock;
      const uint64_t sum = XXH3_64bits(bytes.data() + at, static_cast<size_t>(std::min(kChecksumBlock, size - at)));
      each(block, sum ? sum : 1);
    }
  });
}

int Scratch::begin_read(int64_t offset, std::span<std::byte> to) noexcept { return begin(offset, to, false); }

int Scratch::begin_write(int64_t offset, std::span<const std::byte> from) noexcept {
  uint64_t* const sums = checksums_.data() + offset / kChecksumBlock;
  hash(from, [&](int64_t block, uint64_t sum) { sums[block] = sum; });
  return begin(offset, {const_cast<std::byte*>(from.data()), from.size()}, true);
}

int Scratch::begin(int64_t offset, std::span<std::byte> memory, bool write) noexcept {
  const int index = free_transfers_.back();
  free_transfers_.pop_back();
  Transfer& transfer = transfers_[static_cast<size_t>(index)];
  transfer = {.offset = offset, .memory = memory, .write = write};
  (write ? written_ : read_) += static_cast<int64_t>(memory.size());
  for (size_t at = 0; at < memory.size(); at += kPartBytes) {
    while (free_parts_.empty()) complete_one();
    const int part = free_parts_.back();
    free_parts_.pop_back();
    parts_[static_cast<size_t>(part)] = {index, offset + static_cast<int64_t>(at),
                                         memory.subspan(at, std::min<size_t>(kPartBytes, memory.size() - at))};
    waiting_[(first_waiting_ + waiting_count_++) % waiting_.size()] = part;
    ++transfer.unfinished;
  }
  submit_waiting();
  return index;
}

void Scratch::submit_waiting() noexcept {
  while (waiting_count_ > 0 && in_flight_ < queue_->depth()) {
    const int index = waiting_[first_waiting_];
    first_waiting_ = (first_waiting_ + 1) % waiting_.size();
    --waiting_count_;
    const Part& part = parts_[static_cast<size_t>(index)];
    ++in_flight_;
    queue_->submit({static_cast<uint64_t>(index), transfers_[static_cast<size_t>(part.transfer)].write, part.offset,
                    part.memory});
  }
}

void Scratch::complete_one() noexcept {
  const IoCompletion done = queue_->wait();
  --in_flight_;
  Part& part = parts_[static_cast<size_t>(done.tag)];
  Transfer& transfer = transfers_[static_cast<size_t>(part.transfer)];
  const bool again = done.result == -EINTR || done.result == -EAGAIN;
  // What was moved only in part goes on from there; direct files from the page before.
  int64_t moved = again ? 0 : done.result;
  const bool whole = moved == static_cast<int64_t>(part.memory.size());
  if (direct_ && moved > 0 && !whole) moved = moved / kDiskAlignment * kDiskAlignment;
  if (!whole && (again || moved > 0)) {
    part.offset += moved;
    part.memory = part.memory.subspan(static_cast<size_t>(moved));
    waiting_[(first_waiting_ + waiting_count_++) % waiting_.size()] = static_cast<int>(done.tag);
    return submit_waiting();
  }
  if (!whole && transfer.error == 0) {
    transfer.error = done.result < 0 ? static_cast<int>(-done.result) : transfer.write ? ENOSPC : EIO;
    transfer.failed_at = part.offset;
  }
  if (!direct_ && whole) {  // what waits on disk does not wait in the page cache
    if (transfer.write) sync_file_range(file_, part.offset, static_cast<off64_t>(part.memory.size()), SYNC_FILE_RANGE_WRITE);
    posix_fadvise(file_, part.offset, static_cast<off_t>(part.memory.size()), POSIX_FADV_DONTNEED);
  }
  --transfer.unfinished;
  free_parts_.push_back(static_cast<int>(done.tag));
  submit_waiting();
}

Result<void> Scratch::finish(int index) {
  Transfer& transfer = transfers_[static_cast<size_t>(index)];
  while (transfer.unfinished > 0) complete_one();
  const Transfer done = transfer;
  free_transfers_.push_back(index);
  if (done.error != 0)
    return fail(ErrorCode::io, "scratch file in {}: {} {} bytes at {}: {}; give --scratch another folder", folder_,
                done.write ? "writing" : "reading", done.memory.size(), done.failed_at, std::strerror(done.error));
  return done.write ? Result<void>() : check(done);
}

Result<void> Scratch::check(const Transfer& transfer) {
  const uint64_t* const sums = checksums_.data() + transfer.offset / kChecksumBlock;
  std::atomic<int64_t> wrong{-1};
  hash(transfer.memory, [&](int64_t block, uint64_t sum) {
    if (sums[block] != 0 && sums[block] != sum) wrong = transfer.offset + block * kChecksumBlock;
  });
  if (wrong < 0) return {};
  return fail(ErrorCode::corrupt,
              "scratch file in {}: the block at {} is not what was written there: the disk or its driver is faulty; "
              "give --scratch another folder",
              folder_, wrong.load());
}

}  // namespace thimble
