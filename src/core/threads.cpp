#include "core/threads.h"

#include <immintrin.h>

#include <algorithm>

#include "core/read_ahead.h"

namespace thimble {
namespace {

// Some 50 microseconds: longer than the gap between two kernels, shorter than a scheduler's patience.
constexpr int kSpins = 1500;

constexpr size_t kMostAhead = 384 << 10;  // bytes a thread: some of a second-level cache
constexpr size_t kAtOnce = 1024;          // bytes between looks at whether the next call has come

}  // namespace

// Sleeping is announced before the value is looked at again, and waking looks for sleepers after the value is changed,
// both in one order for all threads: either the sleeper sees the new value, or the waker sees the sleeper. So nobody
// enters the kernel while all are spinning.
template <class Value>
void Threads::wait_while(std::atomic<Value>& variable, Value old) noexcept {
  for (int i = 0; i < kSpins; ++i) {
    if (variable.load(std::memory_order_acquire) != old) return;
    _mm_pause();
  }
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (variable.load(std::memory_order_seq_cst) == old) variable.wait(old, std::memory_order_seq_cst);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

template <class Value>
void Threads::wake(std::atomic<Value>& variable) noexcept {
  if (sleepers_.load(std::memory_order_seq_cst) > 0) variable.notify_all();
}

Threads::Threads(int count) : count_(count < 1 ? 1 : count), left_(new Left[static_cast<size_t>(count_)]) {
  workers_.reserve(static_cast<size_t>(count_ - 1));
  for (int thread = 1; thread < count_; ++thread) workers_.emplace_back([this, thread] { work(thread); });
}

Threads::~Threads() {
  stop_.store(true, std::memory_order_relaxed);
  started_.fetch_add(1, std::memory_order_seq_cst);
  started_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Threads::run(Function function, void* context) noexcept {
  if (count_ == 1) return function(context, 0);
  function_ = function;
  context_ = context;
  running_.store(count_ - 1, std::memory_order_relaxed);
  started_.fetch_add(1, std::memory_order_seq_cst);
  wake(started_);
  function(context, 0);
  for (int left = running_.load(std::memory_order_acquire); left != 0; left = running_.load(std::memory_order_acquire))
    wait_while(running_, left);
}

// A quarter, so that there is always something to take for who comes late, in few pieces.
Threads::Range Threads::take(int of, bool front) noexcept {
  std::atomic<Range>& left = left_[static_cast<size_t>(of)].range;
  for (Range all = left.load(std::memory_order_relaxed);;) {
    const uint32_t count = (all.end - all.begin + 3) / 4;
    const Range taken = front ? Range{all.begin, all.begin + count} : Range{all.end - count, all.end};
    const Range rest = front ? Range{taken.end, all.end} : Range{all.begin, taken.begin};
    if (count == 0 || left.compare_exchange_weak(all, rest, std::memory_order_relaxed)) return taken;
  }
}

// Until the next call.
void Threads::read(const Ahead& ahead, int thread, uint64_t seen) const noexcept {
  size_t left = kMostAhead;
  for (std::span<const std::byte> memory : ahead) {
    const auto part = [&](int of) { return memory.size() * static_cast<size_t>(of) / static_cast<size_t>(count_); };
    const std::byte* const end = memory.data() + std::min(part(thread + 1), part(thread) + left);
    for (const std::byte* at = memory.data() + part(thread); at < end; at += kAtOnce) {
      if (started_.load(std::memory_order_relaxed) != seen) return;
      thimble::read_ahead({at, std::min(kAtOnce, static_cast<size_t>(end - at))});
      left -= std::min(left, kAtOnce);
    }
  }
}

void Threads::work(int thread) noexcept {
  for (uint64_t seen = 0;; ++seen) {
    wait_while(started_, seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    const Ahead ahead = ahead_;  // the caller waits: it stays as it is
    function_(context_, thread);
    if (running_.fetch_sub(1, std::memory_order_seq_cst) == 1) wake(running_);
    read(ahead, thread, seen + 1);
  }
}

}  // namespace thimble
