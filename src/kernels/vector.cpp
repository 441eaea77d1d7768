#include "kernels/vector.h"

#include <bit>

#include "kernels/clones.h"
#include "kernels/lanes.h"
#include "kernels/round_bf16.h"

namespace thimble {
CLONES void to_bf16(const float* __restrict from, uint16_t* __restrict to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<uint16_t>(round_bf16(from[i]));
}

CLONES void from_bf16(const uint16_t* __restrict from, float* __restrict to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) to[i] = std::bit_cast<float>(uint32_t{from[i]} << 16);
}

CLONES void round_to_bf16(float* values, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) values[i] = std::bit_cast<float>(round_bf16(values[i]) << 16);
}

CLONES void take_apart(const float* from, float* to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; i += 2 * kLanes) {
    const LanePair pair = take_apart(from + i);
    store_lanes(pair.even, to + i);
    store_lanes(pair.odd, to + i + kLanes);
  }
}

CLONES void interleave_bf16(const float* __restrict low, const float* __restrict high, uint32_t* __restrict to,
                            int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) to[i] = round_bf16(low[i]) | (round_bf16(high[i]) << 16);
}

}  // namespace thimble
