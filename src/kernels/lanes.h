// 16 numbers side by side as one vector, for kernel bodies of dispatch.h that load, rearrange and store; what is kept
// over the passes of a loop is for register_lanes.h. Every instruction set gives the same bits.
#pragma once

#include <cstdint>
#include <utility>

#include "codecs/dispatch.h"

// Vectors pass between functions that are always inlined.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace thimble {

constexpr int64_t kLanes = 16;

using Lanes = float __attribute__((vector_size(64), aligned(4), may_alias));
using LaneWords = uint32_t __attribute__((vector_size(64), aligned(4), may_alias));
using LaneHalves = uint16_t __attribute__((vector_size(32), aligned(2), may_alias));

// Lane l of `count`: lane of(l) of a and b, one after the other.
template <auto of, class Vector, int... l>
THIMBLE_BODY auto pick_lanes(Vector a, Vector b, std::integer_sequence<int, l...>) noexcept {
  return __builtin_shufflevector(a, b, of(l)...);
}
template <int count, auto of, class Vector>
THIMBLE_BODY auto pick_lanes(Vector a, Vector b) noexcept {
  return pick_lanes<of>(a, b, std::make_integer_sequence<int, count>{});
}

THIMBLE_BODY Lanes load_lanes(const float* at) noexcept { return *reinterpret_cast<const Lanes*>(at); }
THIMBLE_BODY void store_lanes(Lanes x, float* to) noexcept { *reinterpret_cast<Lanes*>(to) = x; }

// Rounded to bf16, to nearest even, as round_bf16() of finite numbers: in the upper halves, and below them anything.
THIMBLE_BODY LaneWords round_finite(Lanes x) noexcept {
  const LaneWords bits = reinterpret_cast<const LaneWords&>(x);
  return bits + 0x7fffu + ((bits >> 16) & 1u);
}

// The even, and the odd ones of 32 numbers.
struct LanePair {
  Lanes even, odd;
};
THIMBLE_BODY LanePair take_apart(const float* from) noexcept {
  const Lanes low = load_lanes(from), high = load_lanes(from + kLanes);
  return {pick_lanes<kLanes, [](int l) { return 2 * l; }>(low, high),
          pick_lanes<kLanes, [](int l) { return 2 * l + 1; }>(low, high)};
}

}  // namespace thimble
