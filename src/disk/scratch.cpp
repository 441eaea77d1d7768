#include "disk/scratch.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "disk/block_checksums.h"
#include "disk/ring.h"
#include "disk/scratch_file.h"

namespace thimble {
namespace {

constexpr int64_t kPartBytes = 512 << 10;  // a transfer goes in parts of this size, so that several are in flight
constexpr int kMostParts = 64;
constexpr int kMostRetries = 1000;           // of a part that moves nothing, without being an error
constexpr int64_t kQueueMemory = 96 << 10;   // the rings that the kernel shares; or a thread's stack as far as used
constexpr int64_t kMemoryOfNames = 8 << 10;  // the folder (PATH_MAX), the description
constexpr int kNothingMoved = 0;             // in place of an errno

struct Transfer {
  bool begun = false;
  bool write = false;
  int64_t offset = 0;
  std::span<std::byte> memory;
  int64_t unsent = 0;  // bytes at its end that are in no part yet
  int parts = 0;       // in flight
  bool failed = false;
  int error = kNothingMoved;  // of the first part that failed, with the bytes which that part still had to move
  int64_t error_offset = 0;
  int64_t error_bytes = 0;

  bool done() const noexcept { return parts == 0 && unsent == 0; }
  void fail(int why, int64_t begin, int64_t end) noexcept {
    if (std::exchange(failed, true)) return;
    error = why;
    error_offset = offset + begin;
    error_bytes = end - begin;
  }
};

// bytes [begin, end) of a transfer; begin moves on as the queue moves bytes.
struct Part {
  int transfer = 0;
  int64_t begin = 0;
  int64_t end = 0;
  int retries = 0;
};

std::string reason(const Transfer& transfer) {
  if (transfer.error != kNothingMoved) return std::strerror(transfer.error);
  return transfer.write ? "the disk took none of them, as if it were full" : "the file ended before them";
}

const char* advice(int error) {
  if (error == ENOSPC || error == EDQUOT) return "free some space there, or give --scratch a folder on another disk";
  return "the disk may be failing; give --scratch a folder on another disk";
}

Result<std::unique_ptr<IoQueue>> best_queue(int file) {
  auto queue = io_uring_queue(file);
  if (!queue && queue.error().code == ErrorCode::unsupported) return thread_queue(file);
  return queue;
}

}  // namespace

class Scratch::Impl {
 public:
  Impl(ScratchFile file, std::unique_ptr<IoQueue> queue, const ScratchOptions& options, Threads& threads);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  int begin(bool write, int64_t offset, std::span<std::byte> memory) noexcept;
  Result<void> finish(int id);
  void poke() noexcept {
    take_completions();
    send_waiting();
  }
  int64_t bytes_read() const { return bytes_read_; }
  int64_t bytes_written() const { return bytes_written_; }
  std::string description() const;

 private:
  void take_completions() noexcept;
  void send_waiting() noexcept;
  void send(int part) noexcept;
  void complete(const IoCompletion& completion) noexcept;
  int64_t advance(const Transfer& transfer, Part& part, int64_t bytes) noexcept;
  void part_failed(Transfer& transfer, const Part& part, int error) noexcept;
  Result<void> outcome(Transfer transfer);
  Failure transfer_failed(const Transfer& transfer) const;
  Result<void> check(const Transfer& transfer);

  ScratchFile file_;
  std::unique_ptr<IoQueue> queue_;  // after the file, which it uses
  std::string folder_;
  int64_t file_bytes_;
  bool direct_;
  Threads& threads_;
  BlockChecksums checksums_;
  std::array<Transfer, kMostTransfers> transfers_;
  std::array<Part, kMostParts> parts_;
  Ring<int, kMostTransfers> free_transfers_;
  Ring<int, kMostTransfers> waiting_;  // transfers with unsent bytes; only the first may have parts in flight
  Ring<int, kMostParts> free_parts_;
  int in_flight_ = 0;
  int64_t bytes_read_ = 0;
  int64_t bytes_written_ = 0;
};

Scratch::Impl::Impl(ScratchFile file, std::unique_ptr<IoQueue> queue, const ScratchOptions& options, Threads& threads)
    : file_(std::move(file)),
      queue_(std::move(queue)),
      folder_(options.folder),
      file_bytes_(options.bytes),
      direct_(file_.is_direct()),
      threads_(threads),
      checksums_(options.bytes) {
  for (int i = 0; i < kMostTransfers; ++i) free_transfers_.push(i);
  for (int i = 0; i < std::min(kMostParts, queue_->depth()); ++i) free_parts_.push(i);
}

Scratch::Impl::~Impl() {
  for (; in_flight_ > 0; --in_flight_) queue_->wait();
}

int Scratch::Impl::begin(bool write, int64_t offset, std::span<std::byte> memory) noexcept {
  assert(offset >= 0 && offset % kChecksumBlock == 0 && offset + std::ssize(memory) <= file_bytes_);
  assert(memory.size() % kDiskAlignment == 0 && reinterpret_cast<uintptr_t>(memory.data()) % kDiskAlignment == 0);
  assert(!free_transfers_.empty());
  const int id = free_transfers_.pop();
  transfers_[id] = {.begun = true, .write = write, .offset = offset, .memory = memory, .unsent = std::ssize(memory)};
  if (!memory.empty()) waiting_.push(id);
  take_completions();
  send_waiting();
  if (write) checksums_.record(offset, memory, threads_);  // while the disk is at it
  return id;
}

Result<void> Scratch::Impl::finish(int id) {
  assert(id >= 0 && id < kMostTransfers && transfers_[id].begun);
  take_completions();
  while (!transfers_[id].done()) complete(queue_->wait());
  const Transfer transfer = std::exchange(transfers_[id], {});
  free_transfers_.push(id);
  return outcome(transfer);
}

// What is complete already makes room for what waits, though nobody asked for it yet.
void Scratch::Impl::take_completions() noexcept {
  while (in_flight_ > 0 && queue_->ready()) complete(queue_->wait());
}

void Scratch::Impl::send_waiting() noexcept {
  while (!waiting_.empty() && !free_parts_.empty()) {
    const int id = waiting_.front();
    Transfer& transfer = transfers_[id];
    const int64_t begin = std::ssize(transfer.memory) - transfer.unsent;
    const int64_t bytes = std::min(transfer.unsent, kPartBytes);
    transfer.unsent -= bytes;
    if (transfer.unsent == 0) waiting_.pop();
    const int part = free_parts_.pop();
    parts_[part] = {.transfer = id, .begin = begin, .end = begin + bytes};
    ++transfer.parts;
    ++in_flight_;
    send(part);
  }
}

void Scratch::Impl::send(int part) noexcept {
  const auto [id, begin, end, retries] = parts_[part];
  const Transfer& transfer = transfers_[id];
  queue_->submit({.tag = static_cast<uint64_t>(part),
                  .write = transfer.write,
                  .offset = transfer.offset + begin,
                  .memory = transfer.memory.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin))});
}

// A part goes on until all of it was moved or it failed; then its place is free for the next.
void Scratch::Impl::complete(const IoCompletion& completion) noexcept {
  const int id = static_cast<int>(completion.tag);
  Part& part = parts_[id];
  Transfer& transfer = transfers_[part.transfer];
  const int64_t result = completion.result;
  const int64_t bytes = result > 0 ? advance(transfer, part, result) : 0;
  if (part.begin < part.end) {
    const bool harmless = result > 0 || result == -EINTR || result == -EAGAIN;
    if (bytes > 0 || (harmless && ++part.retries <= kMostRetries)) return send(id);
    part_failed(transfer, part, result < 0 ? static_cast<int>(-result) : kNothingMoved);
  }
  --transfer.parts;
  --in_flight_;
  free_parts_.push(id);
  send_waiting();
}

// By whole blocks for a direct file, the only ones it could go on from; returns by how many bytes.
int64_t Scratch::Impl::advance(const Transfer& transfer, Part& part, int64_t bytes) noexcept {
  bytes = std::min(bytes, part.end - part.begin);
  if (direct_) bytes -= bytes % kDiskAlignment;
  if (!direct_ && transfer.write) file_.start_writeback(transfer.offset + part.begin, bytes);
  (transfer.write ? bytes_written_ : bytes_read_) += bytes;
  part.begin += bytes;
  return bytes;
}

// The rest of the transfer is not sent; its other parts in flight are still waited for.
void Scratch::Impl::part_failed(Transfer& transfer, const Part& part, int error) noexcept {
  if (transfer.unsent > 0) {
    assert(&transfers_[waiting_.front()] == &transfer);
    waiting_.pop();
    transfer.unsent = 0;
  }
  transfer.fail(error, part.begin, part.end);
}

Result<void> Scratch::Impl::outcome(Transfer transfer) {
  const int64_t bytes = std::ssize(transfer.memory);
  if (!direct_ && bytes > 0) {
    const int error = file_.drop_from_cache(transfer.offset, bytes);
    if (error != 0) transfer.fail(error, 0, bytes);
  }
  if (transfer.failed) return transfer_failed(transfer);
  if (!transfer.write) return check(transfer);
  return {};
}

Failure Scratch::Impl::transfer_failed(const Transfer& transfer) const {
  return fail(ErrorCode::io, "scratch file in {}: {} {} bytes at {}: {}; {}", folder_,
              transfer.write ? "writing" : "reading", transfer.error_bytes, transfer.error_offset, reason(transfer),
              advice(transfer.error));
}

Result<void> Scratch::Impl::check(const Transfer& transfer) {
  const auto mismatch = checksums_.first_mismatch(transfer.offset, transfer.memory, threads_);
  if (!mismatch) return {};
  return fail(ErrorCode::io,
              "scratch file in {}: the block at {} is not what was written (checksum {:016x}, expected {:016x}): the "
              "disk or its driver is faulty; give --scratch a folder on another disk",
              folder_, mismatch->offset, mismatch->found, mismatch->expected);
}

std::string Scratch::Impl::description() const {
  return fmt::format("{}, {}", queue_->name(), direct_ ? "direct" : "through the page cache");
}

Scratch::Scratch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Scratch::~Scratch() = default;

Result<std::unique_ptr<Scratch>> Scratch::create(const ScratchOptions& options, Threads& threads) {
  if (options.bytes <= 0 || options.bytes % kDiskAlignment != 0) {
    return fail(ErrorCode::invalid_argument,
                "making a scratch file in {}: its size should be a positive multiple of {} bytes, found {}",
                options.folder, kDiskAlignment, options.bytes);
  }
  ScratchFile file = TRY(ScratchFile::create(options.folder, options.bytes));
  const int descriptor = file.descriptor();
  auto queue = TRY(options.queue ? options.queue(descriptor) : best_queue(descriptor));
  auto impl = std::make_unique<Impl>(std::move(file), std::move(queue), options, threads);
  return std::unique_ptr<Scratch>(new Scratch(std::move(impl)));
}

int Scratch::begin_read(int64_t offset, std::span<std::byte> to) noexcept { return impl_->begin(false, offset, to); }

int Scratch::begin_write(int64_t offset, std::span<const std::byte> from) noexcept {
  return impl_->begin(true, offset, {const_cast<std::byte*>(from.data()), from.size()});
}

Result<void> Scratch::finish(int transfer) { return impl_->finish(transfer); }
void Scratch::poke() noexcept { impl_->poke(); }

int64_t Scratch::bytes_read() const { return impl_->bytes_read(); }
int64_t Scratch::bytes_written() const { return impl_->bytes_written(); }
std::string Scratch::description() const { return impl_->description(); }

int64_t Scratch::memory_bytes(int64_t file_bytes) {
  constexpr int64_t kObjects = sizeof(Scratch) + sizeof(Impl);
  return kObjects + BlockChecksums::memory_bytes(file_bytes) + kQueueMemory + kMemoryOfNames;
}

}  // namespace thimble
