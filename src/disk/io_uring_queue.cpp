#include <liburing.h>

#include <cerrno>
#include <cstring>

#include "disk/io_queue.h"

namespace thimble {
namespace {

constexpr unsigned kDepth = 64;

class IoUringQueue : public IoQueue {
 public:
  IoUringQueue(int file, const io_uring& ring) : file_(file), ring_(ring) {}
  ~IoUringQueue() override { io_uring_queue_exit(&ring_); }

  std::string_view name() const override { return "io_uring"; }
  int depth() const override { return kDepth; }

  void submit(const IoRequest& request) noexcept override {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);  // never full: each is submitted at once
    const auto size = static_cast<unsigned>(request.memory.size());
    const auto offset = static_cast<uint64_t>(request.offset);
    if (request.write)
      io_uring_prep_write(entry, file_, request.memory.data(), size, offset);
    else
      io_uring_prep_read(entry, file_, request.memory.data(), size, offset);
    io_uring_sqe_set_data64(entry, request.tag);
    while (io_uring_submit(&ring_) == -EINTR) {
    }
  }

  IoCompletion wait() noexcept override {
    io_uring_cqe* entry = nullptr;
    while (true) {
      const int result = io_uring_wait_cqe(&ring_, &entry);
      if (result == 0) break;
      if (result == -EAGAIN || result == -EBUSY) io_uring_submit(&ring_);
    }
    const IoCompletion completion{io_uring_cqe_get_data64(entry), entry->res};
    io_uring_cqe_seen(&ring_, entry);
    return completion;
  }

 private:
  const int file_;
  io_uring ring_;
};

}  // namespace

Result<std::unique_ptr<IoQueue>> io_uring_queue(int file) {
  io_uring ring;
  if (const int result = io_uring_queue_init(kDepth, &ring, 0); result < 0)
    return fail(ErrorCode::unsupported, "io_uring: {}", std::strerror(-result));
  return std::make_unique<IoUringQueue>(file, ring);
}

}  // namespace thimble
