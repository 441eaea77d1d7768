// Between a save that is under way and the steps that run meanwhile. A save reads values where they lie, in the order
// in which steps overwrite them, and a step waits before it overwrites one that has not been read: so a save needs no
// copy, and holds a step up only where its update comes sooner than the disk takes the bytes.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace thimble {

class SaveGate {
 public:
  // Offsets in the arena, in the order in which a save reads the values there.
  explicit SaveGate(const std::vector<int64_t>& order);

  // Of the value at an offset, how many have been read once it has; 0: steps never overwrite it.
  int position(int64_t offset) const;

  // Of the thread that runs the steps: a save begins.
  void close() noexcept { read_.store(0, std::memory_order_relaxed); }
  // Before the values up to that position are overwritten.
  void wait_for(int position) noexcept {
    for (int read = read_.load(std::memory_order_acquire); read < position;
         read = read_.load(std::memory_order_acquire))
      read_.wait(read, std::memory_order_acquire);
  }

  // Of the save: the values up to that position have been read.
  void has_read(int position) noexcept {
    read_.store(position, std::memory_order_release);
    read_.notify_all();
  }
  // Every value has, or will not be.
  void open() noexcept { has_read(kAll); }

 private:
  static constexpr int kAll = std::numeric_limits<int>::max();
  std::vector<std::pair<int64_t, int>> positions_;  // by offset
  std::atomic<int> read_{kAll};
};

}  // namespace thimble
