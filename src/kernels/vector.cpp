#include "kernels/vector.h"

#include <bit>

#include "kernels/lanes.h"
#include "kernels/round_bf16.h"

namespace thimble {
namespace {

THIMBLE_BODY void to_bf16_body(const float* __restrict from, uint16_t* __restrict to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) to[i] = static_cast<uint16_t>(round_bf16(from[i]));
}

THIMBLE_BODY void from_bf16_body(const uint16_t* __restrict from, float* __restrict to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) to[i] = std::bit_cast<float>(uint32_t{from[i]} << 16);
}

THIMBLE_BODY void round_to_bf16_body(float* values, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) values[i] = std::bit_cast<float>(round_bf16(values[i]) << 16);
}

THIMBLE_BODY void take_apart_body(const float* from, float* to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; i += 2 * kLanes) {
    const LanePair pair = take_apart(from + i);
    store_lanes(pair.even, to + i);
    store_lanes(pair.odd, to + i + kLanes);
  }
}

THIMBLE_BODY void interleave_bf16_body(const float* __restrict low, const float* __restrict high,
                                       uint32_t* __restrict to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) to[i] = round_bf16(low[i]) | (round_bf16(high[i]) << 16);
}

}  // namespace

void to_bf16(const float* from, uint16_t* to, int64_t count) noexcept { dispatched<to_bf16_body>(from, to, count); }

void from_bf16(const uint16_t* from, float* to, int64_t count) noexcept { dispatched<from_bf16_body>(from, to, count); }

void round_to_bf16(float* values, int64_t count) noexcept { dispatched<round_to_bf16_body>(values, count); }

void take_apart(const float* from, float* to, int64_t count) noexcept { dispatched<take_apart_body>(from, to, count); }

void interleave_bf16(const float* low, const float* high, uint32_t* to, int64_t count) noexcept {
  dispatched<interleave_bf16_body>(low, high, to, count);
}

}  // namespace thimble
