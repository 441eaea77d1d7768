#include "core/threads.h"

#include <immintrin.h>

namespace thimble {
namespace {

// About 20 microseconds: longer than the gap between two kernels, shorter than a person's or a scheduler's patience.
constexpr int kSpins = 2000;

template <class Value>
void wait_while(std::atomic<Value>& variable, Value old) noexcept {
  for (int i = 0; i < kSpins; ++i) {
    if (variable.load(std::memory_order_acquire) != old) return;
    _mm_pause();
  }
  variable.wait(old, std::memory_order_acquire);
}

}  // namespace

Threads::Threads(int count) : count_(count < 1 ? 1 : count) {
  workers_.reserve(static_cast<size_t>(count_ - 1));
  for (int thread = 1; thread < count_; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

Threads::~Threads() {
  stop_.store(true, std::memory_order_relaxed);
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Threads::run(Function function, void* context) noexcept {
  if (count_ == 1) return function(context, 0);
  function_ = function;
  context_ = context;
  running_.store(count_ - 1, std::memory_order_relaxed);
  started_.fetch_add(1, std::memory_order_release);
  started_.notify_all();
  function(context, 0);
  for (int left = running_.load(std::memory_order_acquire); left != 0; left = running_.load(std::memory_order_acquire))
    wait_while(running_, left);
}

void Threads::work(int thread) noexcept {
  for (uint64_t seen = 0;; ++seen) {
    wait_while(started_, seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    function_(context_, thread);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace thimble
