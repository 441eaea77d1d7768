// The file of the disk tier: where values wait between two stays in memory. It is of this process alone: unlinked as
// soon as it is made, mode 0600; nothing of it survives the process.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/threads.h"
#include "disk/io_queue.h"

namespace thimble {

constexpr int64_t kDiskAlignment = 4096;   // of offsets and sizes of transfers, and of the memory they touch
constexpr int64_t kChecksumBlock = 16384;  // transfers begin at multiples of it in the file

struct ScratchOptions {
  std::string folder;  // refused when it is missing or in memory (tmpfs, ramfs)
  int64_t bytes = 0;   // of the file: its space is taken at once, so that the disk cannot fill up later
  // The queue to use; empty: io_uring, or a thread where that is refused. Tests inject faults here.
  std::function<Result<std::unique_ptr<IoQueue>>(int file)> queue;
};

class Scratch {
 public:
  // Errors name the folder, what was needed and what is free.
  static Result<std::unique_ptr<Scratch>> create(const ScratchOptions& options, Threads& threads);
  ~Scratch();

  // Begin a transfer; the memory must stay untouched until it is finished. Several may be in flight; at most
  // kMostTransfers unfinished ones. A read of what a write in flight covers must be begun after that write was
  // finished.
  static constexpr int kMostTransfers = 512;
  int begin_read(int64_t offset, std::span<std::byte> to) noexcept;
  int begin_write(int64_t offset, std::span<const std::byte> from) noexcept;
  // Waits for it. A read is checked against the checksums of what was written. ErrorCode::io with what was being done
  // (reading or writing how many bytes of the scratch file in which folder) and the system's reason.
  Result<void> finish(int transfer);

  // Keeps what was begun moving; to be called now and then while computing. Does not wait.
  void poke() noexcept;

  // Both together, for loading and saving.
  Result<void> read(int64_t offset, std::span<std::byte> to) { return finish(begin_read(offset, to)); }
  Result<void> write(int64_t offset, std::span<const std::byte> from) { return finish(begin_write(offset, from)); }

  int64_t bytes_read() const;
  int64_t bytes_written() const;
  std::string description() const;  // "io_uring, direct", "threads, through the page cache"
  // What a file of so many bytes takes of memory: checksums, rings, tables.
  static int64_t memory_bytes(int64_t file_bytes);

 private:
  class Impl;
  explicit Scratch(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thimble
