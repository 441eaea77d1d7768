// A fixed team of threads that run the same function over parts of a range. Parts are taken, not assigned: every thread
// begins with its own, and a thread that is done takes from what others have left, so that one which the system keeps
// off its CPU holds up the part that it is in and no more. Which thread does what therefore depends on timing, and no
// result may depend on it.
//
// Handing a call to the others takes what the call is about from one core's cache to another's, and that takes turns.
// Where calls are short and follow one another, together() saves it: every thread goes through the whole work itself,
// and the calls are the places where they meet.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <thread>
#include <type_traits>
#include <vector>

namespace thimble {

class Threads {
 public:
  // count >= 1 includes the calling thread. Threads are created here and live until destruction.
  explicit Threads(int count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

  int count() const noexcept { return count_; }

  // Memory that a thread will read in a call: while it waits for the call to begin it may bring some of it, from the
  // start of each on, into its caches.
  using Ahead = std::array<std::span<const std::byte>, 4>;
  struct NothingAhead {
    Ahead operator()(auto...) const noexcept { return {}; }
  };

  // Calls body(thread) once on every thread, and returns when all are done. Not reentrant; allocates nothing.
  template <class Body, class AheadOf = NothingAhead>
  void each(Body&& body, const AheadOf& ahead_of = {}) noexcept {
    if (!inside()) return run(invoke<Body>, &body);
    begin(ahead_of);
    body(region_.thread);
    end();
  }

  // Calls body() on one thread.
  template <class Body>
  void once(Body&& body) noexcept {
    if (inside() && region_.thread > 0) return;  // who is ahead waits in the next call for all
    if (inside() && region_.called) join();
    body();
  }

  // Calls body(begin, end, thread) on contiguous parts of [0, total), each a multiple of `grain` but the last; a thread
  // gets several, in any order.
  template <class Body>
  void split(int64_t total, int64_t grain, Body&& body) noexcept {
    if (total <= 0) return;
    const int64_t grains = (total + grain - 1) / grain;
    if (grains == 1) return once([&] { body(int64_t{0}, total, 0); });        // not worth waking anybody
    const int64_t piece = std::max<int64_t>(1, grains / (kPieces * count_));  // in grains
    share((grains + piece - 1) / piece, [&](int64_t first, int64_t last, int thread) {
      body(first * piece * grain, std::min(total, last * piece * grain), thread);
    });
  }

  // The same in one part a thread, for bodies to which every part costs as much as a pass over something else.
  template <class Body>
  void divide(int64_t total, int64_t grain, Body&& body) noexcept {
    const int64_t grains = (total + grain - 1) / grain;
    if (total <= 0) return;
    if (grains == 1) return once([&] { body(int64_t{0}, total, 0); });
    const int parts = count_;
    each([&](int thread) {
      const int64_t begin = grains * thread / parts * grain;
      const int64_t end = std::min(total, grains * (thread + 1) / parts * grain);
      if (begin < end) body(begin, end, thread);
    });
  }

  // Calls body(begin, end, thread) on parts of [0, total): every thread begins with its share of equal ones, and takes
  // from the ends of what others have left. ahead_of(begin, end) is a part's memory.
  template <class Body, class AheadOf = NothingAhead>
  void share(int64_t total, Body&& body, const AheadOf& ahead_of = {}) noexcept {
    share_from(
        total, [&](int thread) { return [&, thread](int64_t begin, int64_t end) { body(begin, end, thread); }; },
        ahead_of);
  }

  // The same with what a thread keeps from one part to the next: start(thread) makes it, and is called with (begin,
  // end).
  template <class Start, class AheadOf = NothingAhead>
  void share_from(int64_t total, const Start& start, const AheadOf& ahead_of = {}) noexcept {
    if (total <= 0) return;
    if (total == 1) return once([&] { start(0)(int64_t{0}, int64_t{1}); });
    assert(total < 1 << 24);
    const uint32_t round = inside() ? ++region_.shared : ++shared_;
    each(
        [&](int thread) {
          auto body = start(thread);
          for (int i = 0; i < count_; ++i)
            for (Range r; (r = take((thread + i) % count_, static_cast<uint32_t>(total), round, i == 0)).begin < r.end;)
              body(int64_t{r.begin}, int64_t{r.end});
        },
        [&](int thread) {
          const Range part = part_of(static_cast<uint32_t>(total), thread);
          return ahead_of(part.begin, part.end);
        });
  }

  // Calls body() on every thread. Calls in it must be the same ones, in the same order, on all threads. Between calls a
  // body may read what was there before together() began, and must write nothing that another thread sees; what a call
  // has made is there in the next call, and when together() returns.
  template <class Body>
  void together(Body&& body) noexcept {
    if (count_ == 1 || inside()) return body();
    run_region(invoke_alone<Body>, &body);
  }

 private:
  static constexpr int64_t kPieces = 16;  // that a thread's part of split() has at least, where there are so many

  using Function = void (*)(void*, int);
  template <class Body>
  static void invoke(void* context, int thread) {
    (*static_cast<std::remove_reference_t<Body>*>(context))(thread);
  }
  template <class Body>
  static void invoke_alone(void* context, int) {
    (*static_cast<std::remove_reference_t<Body>*>(context))();
  }

  struct Range {
    uint32_t begin = 0, end = 0;
  };
  // What is left of a thread's part, and of which call of share(): it is whole where that is an earlier one.
  struct Left {
    uint64_t round : 16, begin : 24, end : 24;
  };
  struct alignas(64) Slot {
    std::atomic<Left> left{Left{0, 0, 0}};
  };
  // Where a thread is in together().
  struct Region {
    const Threads* team = nullptr;
    int thread = 0;
    bool called = false;  // anything for all yet
    uint64_t seen = 0;    // calls that have begun
    uint32_t shared = 0;  // calls of share()
  };

  bool inside() const noexcept { return region_.team == this; }
  Range part_of(uint32_t total, int thread) const noexcept;
  // A part of what is left to thread `of`, from its front or its back; empty when there is nothing.
  Range take(int of, uint32_t total, uint32_t round, bool front) noexcept;

  template <class AheadOf>
  void begin(const AheadOf& ahead_of) noexcept {
    if (region_.thread > 0) return wait_for_call(ahead_of(region_.thread));
    join();
    start();
    region_.called = true;
  }
  void end() noexcept;
  void run(Function function, void* context) noexcept;
  void run_region(Function function, void* context) noexcept;
  void start() noexcept;                            // the next call, by the first thread
  void join() noexcept;                             // until the others are done with it
  void finish() noexcept;                           // what another thread has done
  void wait_for_call(const Ahead& ahead) noexcept;  // by another thread
  void work(int thread) noexcept;
  template <class Value>
  void wait_while(std::atomic<Value>& variable, Value old) noexcept;
  template <class Value>
  void wake(std::atomic<Value>& variable) noexcept;

  static thread_local Region region_;

  int count_;
  uint64_t spin_;  // before sleeping
  Function function_ = nullptr;
  void* context_ = nullptr;
  std::string_view operation_;  // that a trace says they are part of
  bool together_ = false;
  uint32_t shared_ = 0;
  std::unique_ptr<Slot[]> slots_;  // one a thread
  alignas(64) std::atomic<uint64_t> started_{0};
  alignas(64) std::atomic<int> running_{0};
  alignas(64) std::atomic<int> sleepers_{0};  // threads in the kernel, or on their way
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace thimble
