#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "core/file_system.h"
#include "disk/io_queue.h"
#include "disk/ring.h"

namespace thimble {
namespace {

constexpr int kDepth = 64;

class ThreadQueue final : public IoQueue {
 public:
  explicit ThreadQueue(int file) : file_(file), thread_([this] { work(); }) {}
  ~ThreadQueue() override;
  ThreadQueue(const ThreadQueue&) = delete;
  ThreadQueue& operator=(const ThreadQueue&) = delete;

  std::string_view name() const override { return "threads"; }
  int depth() const override { return kDepth; }
  void submit(const IoRequest& request) noexcept override;
  bool ready() noexcept override;
  IoCompletion wait() noexcept override;

 private:
  void work() noexcept;
  IoCompletion perform(const IoRequest& request) const noexcept;

  int file_;
  std::mutex mutex_;  // of all below but the thread
  std::condition_variable requested_;
  std::condition_variable completed_;
  Ring<IoRequest, kDepth> requests_;
  Ring<IoCompletion, kDepth> completions_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses the others
};

ThreadQueue::~ThreadQueue() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  requested_.notify_one();
  thread_.join();
}

void ThreadQueue::submit(const IoRequest& request) noexcept {
  {
    const std::lock_guard lock(mutex_);
    requests_.push(request);
  }
  requested_.notify_one();
}

bool ThreadQueue::ready() noexcept {
  const std::lock_guard lock(mutex_);
  return !completions_.empty();
}

IoCompletion ThreadQueue::wait() noexcept {
  std::unique_lock lock(mutex_);
  completed_.wait(lock, [this] { return !completions_.empty(); });
  return completions_.pop();
}

void ThreadQueue::work() noexcept {
  std::unique_lock lock(mutex_);
  for (;;) {
    requested_.wait(lock, [this] { return stop_ || !requests_.empty(); });
    if (stop_) return;
    const IoRequest request = requests_.pop();
    lock.unlock();
    const IoCompletion completion = perform(request);
    lock.lock();
    completions_.push(completion);
    completed_.notify_one();
  }
}

IoCompletion ThreadQueue::perform(const IoRequest& request) const noexcept {
  std::byte* const data = request.memory.data();
  const size_t size = request.memory.size();
  FileSystem& disk = file_system();
  return {request.tag,
          request.write ? disk.write(file_, data, size, request.offset) : disk.read(file_, data, size, request.offset)};
}

}  // namespace

Result<std::unique_ptr<IoQueue>> thread_queue(int file) {
  try {
    return std::make_unique<ThreadQueue>(file);
  } catch (const std::system_error& error) {
    return fail(ErrorCode::unsupported, "starting a thread for the scratch file: {}", error.what());
  }
}

}  // namespace thimble
