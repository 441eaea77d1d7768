// A round of Philox4x32: of one counter in core/random.h, of many side by side in kernels/draw.h.
//
//   Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3
#pragma once

#include <cstdint>

namespace thimble {

struct PhiloxKey {
  static constexpr int kRounds = 10;
  uint32_t k0, k1;

  explicit constexpr PhiloxKey(uint64_t key) noexcept
      : k0(static_cast<uint32_t>(key)), k1(static_cast<uint32_t>(key >> 32)) {}
  // To the key of the next round.
  constexpr void step() noexcept { k0 += 0x9E3779B9u, k1 += 0xBB67AE85u; }
};

// Of the four words of a counter, in place.
[[gnu::always_inline]] inline void philox_round(PhiloxKey key, uint32_t& c0, uint32_t& c1, uint32_t& c2,
                                                uint32_t& c3) noexcept {
  const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
  c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ key.k0, c1 = static_cast<uint32_t>(p1);
  c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ key.k1, c3 = static_cast<uint32_t>(p0);
}

}  // namespace thimble
