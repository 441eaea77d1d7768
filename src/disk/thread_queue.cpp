#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "disk/io_queue.h"

namespace thimble {
namespace {

constexpr size_t kDepth = 16;

// First in, first out.
template <class T>
class Ring {
 public:
  bool empty() const { return count_ == 0; }
  void push(const T& item) { items_[(first_ + count_++) % kDepth] = item; }
  T pop() {
    const T item = items_[first_];
    first_ = (first_ + 1) % kDepth;
    --count_;
    return item;
  }

 private:
  std::array<T, kDepth> items_;
  size_t first_ = 0, count_ = 0;
};

class ThreadQueue : public IoQueue {
 public:
  explicit ThreadQueue(int file) : file_(file), thread_([this] { work(); }) {}
  ~ThreadQueue() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::string_view name() const override { return "thread"; }
  int depth() const override { return kDepth; }

  void submit(const IoRequest& request) noexcept override {
    {
      const std::lock_guard lock(mutex_);
      requests_.push(request);
    }
    changed_.notify_all();
  }

  IoCompletion wait() noexcept override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !completions_.empty(); });
    return completions_.pop();
  }

 private:
  void work() noexcept {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stop_ || !requests_.empty(); });
      if (requests_.empty()) return;
      const IoRequest request = requests_.pop();
      lock.unlock();
      const auto [tag, write, offset, memory] = request;
      const ssize_t moved = write ? pwrite(file_, memory.data(), memory.size(), offset)
                                  : pread(file_, memory.data(), memory.size(), offset);
      const int64_t result = moved < 0 ? -errno : moved;
      lock.lock();
      completions_.push({tag, result});
      changed_.notify_all();
    }
  }

  const int file_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Ring<IoRequest> requests_;
  Ring<IoCompletion> completions_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<IoQueue>> thread_queue(int file) { return std::make_unique<ThreadQueue>(file); }

}  // namespace thimble
