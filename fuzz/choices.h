// A fuzzer's bytes as choices: each takes the next byte, and the first of what there is when none is left.
#pragma once

#include <cstdint>
#include <span>

namespace thimble {

class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : bytes_(data, size) {}

  int64_t between(int64_t least, int64_t most) {  // at most 255 more than `least`
    if (bytes_.empty()) return least;
    const int64_t byte = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return least + byte % (most - least + 1);
  }
  bool yes() { return between(0, 1) == 1; }
  template <class List>
  auto& of(const List& list) {
    return list[static_cast<size_t>(between(0, static_cast<int64_t>(list.size()) - 1))];
  }

 private:
  std::span<const uint8_t> bytes_;
};

}  // namespace thimble
