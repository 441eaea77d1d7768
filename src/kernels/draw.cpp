#include "kernels/draw.h"

#include <algorithm>

#include "codecs/dispatch.h"
#include "core/normal_pair.h"
#include "core/philox_round.h"

namespace thimble {
namespace {

constexpr int kPairs = 16;

// As philox() of core/random.h, of so many counters side by side.
THIMBLE_BODY void draw_normal_body(uint64_t key, uint64_t high, uint64_t first, int64_t count, float* to) noexcept {
  for (int64_t done = 0; done < count;) {
    const uint64_t at = first + static_cast<uint64_t>(done);
    uint32_t c0[kPairs], c1[kPairs], c2[kPairs], c3[kPairs];
    for (int l = 0; l < kPairs; ++l) {
      const uint64_t counter = (at >> 1) + static_cast<uint64_t>(l);
      c0[l] = static_cast<uint32_t>(counter), c1[l] = static_cast<uint32_t>(counter >> 32);
      c2[l] = static_cast<uint32_t>(high), c3[l] = static_cast<uint32_t>(high >> 32);
    }
    PhiloxKey rounds(key);
    for (int round = 0; round < PhiloxKey::kRounds; ++round, rounds.step())
      for (int l = 0; l < kPairs; ++l) philox_round(rounds, c0[l], c1[l], c2[l], c3[l]);
    float even[kPairs], odd[kPairs], both[2 * kPairs];
    for (int l = 0; l < kPairs; ++l) {
      const NormalPair pair = normal_pair(c0[l], c1[l]);
      even[l] = pair.first, odd[l] = pair.second;
    }
    for (int l = 0; l < kPairs; ++l) both[2 * l] = even[l], both[2 * l + 1] = odd[l];
    const auto skipped = static_cast<int64_t>(at & 1);
    const int64_t some = std::min<int64_t>(count - done, 2 * kPairs - skipped);
    std::copy_n(both + skipped, some, to + done);
    done += some;
  }
}

constexpr auto* draw = dispatched<draw_normal_body>;

}  // namespace

void draw_normal(const Random& random, uint64_t first, int64_t count, float* to) noexcept {
  draw(random.key(), random.high(), first, count, to);
}

}  // namespace thimble
