// First in, first out, of a fixed capacity: pushing never allocates.
#pragma once

#include <array>
#include <cassert>

namespace thimble {

template <class T, int kCapacity>
class Ring {
 public:
  bool empty() const noexcept { return count_ == 0; }
  int count() const noexcept { return count_; }
  T& front() noexcept {
    assert(count_ > 0);
    return items_[first_];
  }
  void push(const T& item) noexcept {
    assert(count_ < kCapacity);
    items_[(first_ + count_++) % kCapacity] = item;
  }
  T pop() noexcept {
    const T item = front();
    first_ = (first_ + 1) % kCapacity;
    --count_;
    return item;
  }

 private:
  std::array<T, kCapacity> items_{};
  int first_ = 0;
  int count_ = 0;
};

}  // namespace thimble
