// Counter-based random numbers: the same (key, counter) always gives the same bits, so that dropout masks and
// noise can be made again in any order, by any thread.
//
//   Philox4x32-10, Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace thimble {

// Four independent 32-bit words for one (key, counter).
std::array<uint32_t, 4> philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) noexcept;

// One stream of numbers, addressed by element. `stream` names what is drawn (a value of the graph, a purpose).
class Random {
 public:
  Random(uint64_t seed, std::string_view stream, uint64_t step = 0) noexcept;
  Random(uint64_t seed, uint64_t stream, uint64_t step) noexcept
      : key_(seed + (step >> 24) * 0x9e3779b97f4a7c15ull), high_(stream ^ (step << 40)) {}

  uint32_t bits(uint64_t element) const noexcept { return philox(key_, element >> 2, high_)[element & 3]; }
  // In [0, 1), 24 bits.
  float uniform(uint64_t element) const noexcept { return static_cast<float>(bits(element) >> 8) * 0x1p-24f; }
  // Standard normal (core/normal_pair.h); kernels/draw.h has many at once.
  float normal(uint64_t element) const noexcept;
  // In [0, bound); bound > 0.
  uint64_t below(uint64_t element, uint64_t bound) const noexcept {
    const auto words = philox(key_, element, high_);
    return static_cast<uint64_t>((static_cast<unsigned __int128>((uint64_t{words[0]} << 32) | words[1]) * bound) >> 64);
  }

  // Of philox(): the key, and the upper half of all counters.
  uint64_t key() const noexcept { return key_; }
  uint64_t high() const noexcept { return high_; }

 private:
  uint64_t key_;
  uint64_t high_;
};

// 64-bit FNV-1a of a name; the stream number of a named value.
constexpr uint64_t name_hash(std::string_view name) noexcept {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

}  // namespace thimble
