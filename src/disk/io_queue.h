// Moving bytes between a file and memory in the background.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "core/result.h"

namespace thimble {

// offset, size and address are multiples of kDiskAlignment where the file was opened for direct transfers.
struct IoRequest {
  uint64_t tag = 0;  // the caller's
  bool write = false;
  int64_t offset = 0;
  std::span<std::byte> memory;
};

struct IoCompletion {
  uint64_t tag = 0;
  int64_t result = 0;  // bytes moved, which may be fewer than asked for; or -errno
};

// Not for several threads. After it has been made it allocates nothing.
class IoQueue {
 public:
  virtual ~IoQueue() = default;
  virtual std::string_view name() const = 0;  // "io_uring", "threads"
  virtual int depth() const = 0;              // requests in flight at most; the caller keeps to it
  virtual void submit(const IoRequest& request) noexcept = 0;
  // Whether wait() would return at once; a queue that cannot tell says no.
  virtual bool ready() noexcept { return false; }
  // Waits for any request that is in flight.
  virtual IoCompletion wait() noexcept = 0;
};

// The kernel's io_uring; refused (ErrorCode::unsupported) where the kernel or a sandbox forbids it.
Result<std::unique_ptr<IoQueue>> io_uring_queue(int file);
// A thread with pread and pwrite.
Result<std::unique_ptr<IoQueue>> thread_queue(int file);

}  // namespace thimble
