#include <liburing.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "disk/io_queue.h"

namespace thimble {
namespace {

constexpr int kDepth = 64;

class IoUringQueue final : public IoQueue {
 public:
  explicit IoUringQueue(int file) : file_(file) {}
  ~IoUringQueue() override {
    if (open_) io_uring_queue_exit(&ring_);
  }
  IoUringQueue(const IoUringQueue&) = delete;
  IoUringQueue& operator=(const IoUringQueue&) = delete;

  Result<void> open();
  std::string_view name() const override { return "io_uring"; }
  int depth() const override { return kDepth; }
  void submit(const IoRequest& request) noexcept override;
  bool ready() noexcept override { return io_uring_cq_ready(&ring_) > 0; }
  IoCompletion wait() noexcept override;

 private:
  bool reads_and_writes() noexcept;

  int file_;
  bool open_ = false;
  io_uring ring_{};
};

// The kernel has rings since 5.1, and the two operations used here since 5.6.
bool IoUringQueue::reads_and_writes() noexcept {
  io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
  if (!probe) return false;
  const bool both =
      io_uring_opcode_supported(probe, IORING_OP_READ) && io_uring_opcode_supported(probe, IORING_OP_WRITE);
  io_uring_free_probe(probe);
  return both;
}

Result<void> IoUringQueue::open() {
  const int status = io_uring_queue_init(kDepth, &ring_, 0);
  if (status < 0) return fail(ErrorCode::unsupported, "setting up io_uring: {}", std::strerror(-status));
  open_ = true;
  if (!reads_and_writes()) return fail(ErrorCode::unsupported, "setting up io_uring: this kernel's is too old");
  return {};
}

// A request that the kernel does not take now (EAGAIN, EINTR) stays in the ring and goes with the next call.
void IoUringQueue::submit(const IoRequest& request) noexcept {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  for (; !sqe; sqe = io_uring_get_sqe(&ring_)) {
    std::this_thread::yield();
    io_uring_submit(&ring_);
  }
  const auto size = static_cast<unsigned>(request.memory.size());
  const auto offset = static_cast<uint64_t>(request.offset);
  if (request.write) {
    io_uring_prep_write(sqe, file_, request.memory.data(), size, offset);
  } else {
    io_uring_prep_read(sqe, file_, request.memory.data(), size, offset);
  }
  io_uring_sqe_set_data64(sqe, request.tag);
  io_uring_submit(&ring_);
}

IoCompletion IoUringQueue::wait() noexcept {
  io_uring_cqe* cqe = nullptr;
  while (io_uring_peek_cqe(&ring_, &cqe) != 0 || !cqe) {
    const int status = io_uring_submit_and_wait(&ring_, 1);
    if (status == -EAGAIN || status == -EBUSY) {
      std::this_thread::yield();
    } else if (status < 0 && status != -EINTR) {
      std::abort();  // the ring itself is broken: what is in flight can neither be waited for nor called off
    }
  }
  const IoCompletion completion{io_uring_cqe_get_data64(cqe), cqe->res};
  io_uring_cqe_seen(&ring_, cqe);
  return completion;
}

}  // namespace

Result<std::unique_ptr<IoQueue>> io_uring_queue(int file) {
  auto queue = std::make_unique<IoUringQueue>(file);
  CHECK_OK(queue->open());
  return queue;
}

}  // namespace thimble
