// A fixed team of threads that run the same function over parts of a range. The parts depend only on the range and
// the size of the team, never on timing, so results are the same on every run.
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

 private:
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
  alignas(64) std::atomic<uint64_t> started_{0};
  alignas(64) std::atomic<int> running_{0};
  alignas(64) std::atomic<int> sleepers_{0};  // threads in the kernel, or on their way
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace thimble
