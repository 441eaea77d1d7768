#include "core/threads.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/cpus.h"
#include "core/read_ahead.h"
#include "core/trace.h"

namespace thimble {
namespace {

// Cycles of the time stamp, some 80 microseconds: longer than the gap between two kernels or two tokens, shorter than a
// scheduler's patience.
constexpr uint64_t kSpin = 200'000;

constexpr size_t kMostAhead = 384 << 10;  // bytes a thread: some of a second-level cache
constexpr size_t kAtOnce = 1024;          // bytes between looks at whether the next call has come

// A clock that costs next to nothing, some 2 to 4 in a nanosecond on x86 and less elsewhere, and what tells the CPU
// that this thread spins.
#if defined(__x86_64__)
uint64_t ticks() noexcept { return __builtin_ia32_rdtsc(); }
void relax() noexcept { __builtin_ia32_pause(); }
#elif defined(__aarch64__)
uint64_t ticks() noexcept {
  uint64_t now;
  asm volatile("mrs %0, cntvct_el0" : "=r"(now));
  return now;
}
void relax() noexcept { asm volatile("yield"); }
#else
uint64_t ticks() noexcept { return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()); }
void relax() noexcept {}
#endif

}  // namespace

// Sleeping is announced before the value is looked at again, and waking looks for sleepers after the value is changed,
// both in one order for all threads: either the sleeper sees the new value, or the waker sees the sleeper. So nobody
// enters the kernel while all are spinning.
template <class Value>
void Threads::wait_while(std::atomic<Value>& variable, Value old) noexcept {
  for (const uint64_t begin = ticks(); ticks() - begin < spin_; relax())
    if (variable.load(std::memory_order_acquire) != old) return;
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  while (variable.load(std::memory_order_seq_cst) == old) variable.wait(old, std::memory_order_seq_cst);
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

template <class Value>
void Threads::wake(std::atomic<Value>& variable) noexcept {
  if (sleepers_.load(std::memory_order_seq_cst) > 0) variable.notify_all();
}

thread_local Threads::Region Threads::region_;

namespace {

// When the call began on this thread, where threads meet in calls inside together().
thread_local Trace::Clock::time_point call_began;

void note_call() noexcept {
  if (active_trace) call_began = Trace::Clock::now();
}

void end_workers(std::atomic<bool>& stop, std::atomic<uint64_t>& started, std::vector<std::thread>& workers) noexcept {
  stop.store(true, std::memory_order_relaxed);
  started.fetch_add(1, std::memory_order_seq_cst);
  started.notify_all();
  for (std::thread& worker : workers) worker.join();
}

}  // namespace

// Where threads are more than CPUs, who spins keeps another from working.
Threads::Threads(int count)
    : count_(count < 1 ? 1 : count),
      spin_(count_ <= usable_cpus() ? kSpin : 0),
      slots_(new Slot[static_cast<size_t>(count_)]) {
  if (active_trace) active_trace->make_room(count_), traced_thread = 0;
  workers_.reserve(static_cast<size_t>(count_ - 1));
  try {
    for (int thread = 1; thread < count_; ++thread) workers_.emplace_back([this, thread] { work(thread); });
  } catch (...) {  // the system gives no more
    end_workers(stop_, started_, workers_);
    throw;
  }
}

Threads::~Threads() { end_workers(stop_, started_, workers_); }

void Threads::start() noexcept {
  note_call();
  running_.store(count_ - 1, std::memory_order_relaxed);
  started_.fetch_add(1, std::memory_order_seq_cst);
  wake(started_);
}

void Threads::join() noexcept {
  if (running_.load(std::memory_order_acquire) == 0) return;
  const TraceSpan waiting(Trace::Kind::wait, traced_operation);
  for (int left = running_.load(std::memory_order_acquire); left != 0; left = running_.load(std::memory_order_acquire))
    wait_while(running_, left);
}

void Threads::finish() noexcept {
  if (running_.fetch_sub(1, std::memory_order_seq_cst) == 1) wake(running_);
}

void Threads::end() noexcept {
  if (active_trace) TraceSpan::record(Trace::Kind::work, traced_operation, call_began);
  if (region_.thread > 0) finish();  // the first thread waits where it needs what the others have done
}

void Threads::run(Function function, void* context) noexcept {
  if (count_ == 1) return function(context, 0);
  function_ = function;
  context_ = context;
  operation_ = traced_operation;
  start();
  {
    const TraceSpan working(Trace::Kind::work, operation_);
    function(context, 0);
  }
  join();
}

// One call begins it, which the others leave when they are in, and one ends it, when they are through.
void Threads::run_region(Function function, void* context) noexcept {
  function_ = function;
  context_ = context;
  together_ = true;
  start();
  region_ = {.team = this, .shared = shared_};
  function(context, 0);
  join();
  shared_ = std::exchange(region_, {}).shared;
  start();
  join();
  together_ = false;
}

Threads::Range Threads::part_of(uint32_t total, int thread) const noexcept {
  const uint64_t parts = static_cast<uint64_t>(count_), part = static_cast<uint64_t>(thread);
  return {static_cast<uint32_t>(total * part / parts), static_cast<uint32_t>(total * (part + 1) / parts)};
}

// A quarter, so that there is always something to take for who comes late, in few pieces.
Threads::Range Threads::take(int of, uint32_t total, uint32_t round, bool front) noexcept {
  std::atomic<Left>& left = slots_[static_cast<size_t>(of)].left;
  const Range whole = part_of(total, of);
  const uint64_t now = round & 0xffff;
  for (Left all = left.load(std::memory_order_relaxed);;) {
    const Range range =
        all.round == now ? Range{static_cast<uint32_t>(all.begin), static_cast<uint32_t>(all.end)} : whole;
    const uint32_t count = (range.end - range.begin + 3) / 4;
    if (count == 0 && all.round == now) return {};
    const Range taken = front ? Range{range.begin, range.begin + count} : Range{range.end - count, range.end};
    const Left rest = front ? Left{now, taken.end, range.end} : Left{now, range.begin, taken.begin};
    if (left.compare_exchange_weak(all, rest, std::memory_order_relaxed)) return taken;
  }
}

void Threads::wait_for_call(const Ahead& ahead) noexcept {
  const auto waiting = [&] { return started_.load(std::memory_order_relaxed) == region_.seen; };
  size_t left = kMostAhead;
  for (std::span<const std::byte> memory : ahead)
    for (size_t at = 0; at < memory.size() && left > 0 && waiting(); at += kAtOnce) {
      read_ahead(memory.subspan(at, std::min(kAtOnce, memory.size() - at)));
      left -= std::min(left, kAtOnce);
    }
  wait_while(started_, region_.seen);
  ++region_.seen;
  note_call();
}

void Threads::work(int thread) noexcept {
  region_.thread = traced_thread = thread;
  for (;;) {
    wait_for_call({});
    if (stop_.load(std::memory_order_relaxed)) return;
    if (together_) {
      region_.team = this;
      region_.shared = shared_;
      finish();
      function_(context_, thread);
      wait_for_call({});
      region_.team = nullptr;
    } else {
      const TraceSpan working(Trace::Kind::work, operation_);
      function_(context_, thread);
    }
    finish();
  }
}

}  // namespace thimble
