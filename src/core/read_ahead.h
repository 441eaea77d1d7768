// Bringing memory into the caches of this thread.
#pragma once

#include <cstddef>
#include <span>

namespace thimble {

constexpr size_t kCacheLine = 64;

// A cache line after the other, by loads: the order and the way in which memory is fastest.
inline void read_ahead(std::span<const std::byte> memory) noexcept {
  unsigned sum = 0;
  for (size_t i = 0; i < memory.size(); i += kCacheLine) sum += static_cast<unsigned>(memory[i]);
  asm volatile("" : : "r"(sum));  // as if it were used
}

}  // namespace thimble
