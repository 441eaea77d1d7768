// A fixed team of threads that run the same function over parts of a range. The parts of each() and split() depend only
// on the range and the size of the team, never on timing, so results are the same on every run.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
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

  // Calls body(thread) once on every thread, and returns when all are done. Not reentrant; allocates nothing.
  template <class Body>
  void each(Body&& body) noexcept {
    run([](void* context, int thread) { (*static_cast<std::remove_reference_t<Body>*>(context))(thread); }, &body);
  }

  // What will be read after the next call of each() or split(): while the others wait for the caller, they bring their
  // parts of it into their caches, as many bytes from the start of each as are sure to stay there. It is only read.
  using Ahead = std::array<std::span<const std::byte>, 4>;
  void read_ahead(const Ahead& ahead) noexcept { ahead_ = ahead; }

  // Calls body(begin, end, thread) on contiguous parts of [0, total), each a multiple of `grain` but the last.
  template <class Body>
  void split(int64_t total, int64_t grain, Body&& body) noexcept {
    const int64_t grains = (total + grain - 1) / grain;
    if (grains <= 1) {  // not worth waking anybody
      if (total > 0) body(int64_t{0}, total, 0);
      return;
    }
    const int parts = count_;
    each([&](int thread) {
      const int64_t begin = grains * thread / parts * grain;
      const int64_t end = std::min(total, grains * (thread + 1) / parts * grain);
      if (begin < end) body(begin, end, thread);
    });
  }

  // The same, for bodies whose results do not depend on who does what: every thread begins with the part that split()
  // gives it, and who is done takes from the ends of what others have left.
  template <class Body>
  void share(int64_t total, Body&& body) noexcept {
    if (total <= 1) return split(total, 1, body);
    for (int t = 0; t < count_; ++t)
      left_[static_cast<size_t>(t)].range.store(
          {static_cast<uint32_t>(total * t / count_), static_cast<uint32_t>(total * (t + 1) / count_)},
          std::memory_order_relaxed);
    each([&](int thread) {
      for (int i = 0; i < count_; ++i)
        for (Range r; (r = take((thread + i) % count_, i == 0)).begin < r.end;) body(r.begin, r.end, thread);
    });
  }

 private:
  struct Range {
    uint32_t begin = 0, end = 0;
  };
  struct alignas(64) Left {
    std::atomic<Range> range;
  };
  // A part of what is left to thread `of`, from its front or its back; empty when there is nothing.
  Range take(int of, bool front) noexcept;

  using Function = void (*)(void*, int);
  void run(Function function, void* context) noexcept;
  void work(int thread) noexcept;
  void read(const Ahead& ahead, int thread, uint64_t seen) const noexcept;
  template <class Value>
  void wait_while(std::atomic<Value>& variable, Value old) noexcept;
  template <class Value>
  void wake(std::atomic<Value>& variable) noexcept;

  int count_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  Ahead ahead_ = {};
  std::unique_ptr<Left[]> left_;  // one a thread
  alignas(64) std::atomic<uint64_t> started_{0};
  alignas(64) std::atomic<int> running_{0};
  alignas(64) std::atomic<int> sleepers_{0};  // threads in the kernel, or on their way
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace thimble
