// 16 numbers side by side, for kernel bodies of dispatch.h. Every instruction set gives the same bits.
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

// Lane l: lane of(l) of a and b, one after the other.
template <auto of, class Vector, int... l>
THIMBLE_BODY Vector pick_lanes(Vector a, Vector b, std::integer_sequence<int, l...>) noexcept {
  return __builtin_shufflevector(a, b, of(l)...);
}
template <auto of, class Vector>
THIMBLE_BODY Vector pick_lanes(Vector a, Vector b) noexcept {
  return pick_lanes<of>(a, b, std::make_integer_sequence<int, kLanes>{});
}

THIMBLE_BODY Lanes load_lanes(const float* at) noexcept { return *reinterpret_cast<const Lanes*>(at); }

THIMBLE_BODY void store_lanes(Lanes x, float* to) noexcept { *reinterpret_cast<Lanes*>(to) = x; }
// Rounded to bf16, to nearest even, as round_bf16() of finite numbers: in the upper halves, and below them anything.
THIMBLE_BODY LaneWords round_finite(Lanes x) noexcept {
  const LaneWords bits = reinterpret_cast<const LaneWords&>(x);
  return bits + 0x7fffu + ((bits >> 16) & 1u);
}
THIMBLE_BODY void store_bf16(Lanes x, uint16_t* to) noexcept {
  *reinterpret_cast<LaneHalves*>(to) = __builtin_convertvector(round_finite(x) >> 16, LaneHalves);
}
THIMBLE_BODY Lanes rounded_lanes(Lanes x) noexcept {
  const LaneWords bits = round_finite(x) & 0xffff0000u;
  return reinterpret_cast<const Lanes&>(bits);
}

// The even, and the odd ones of 32 bf16.
struct LanePair {
  Lanes even, odd;
};
THIMBLE_BODY LanePair pair_of(LaneWords words) noexcept {
  const LaneWords even = words << 16, odd = words & 0xffff0000u;
  return {reinterpret_cast<const Lanes&>(even), reinterpret_cast<const Lanes&>(odd)};
}
THIMBLE_BODY LanePair load_pair(const uint16_t* at) noexcept {
  return pair_of(*reinterpret_cast<const LaneWords*>(at));
}

// 32 numbers in order, and taken apart as load_pair() does.
THIMBLE_BODY void interleave(const LanePair& pair, float* to) noexcept {
  *reinterpret_cast<Lanes*>(to) = pick_lanes<[](int l) { return l / 2 + l % 2 * 16; }>(pair.even, pair.odd);
  *reinterpret_cast<Lanes*>(to + kLanes) =
      pick_lanes<[](int l) { return 8 + l / 2 + l % 2 * 16; }>(pair.even, pair.odd);
}
THIMBLE_BODY LanePair take_apart(const float* from) noexcept {
  const Lanes low = load_lanes(from), high = load_lanes(from + kLanes);
  return {pick_lanes<[](int l) { return 2 * l; }>(low, high), pick_lanes<[](int l) { return 2 * l + 1; }>(low, high)};
}

// Each lane has the one `width` away.
template <int width>
THIMBLE_BODY Lanes swap_lanes(Lanes v) noexcept {
  return pick_lanes<[](int l) { return l ^ width; }>(v, v);
}

// The sum over lanes, in the order of dot() in rows.h.
THIMBLE_BODY float fold(Lanes v) noexcept {
  v += swap_lanes<8>(v);
  v += swap_lanes<4>(v);
  v += swap_lanes<2>(v);
  return v[0] + v[1];
}

// Lanes whose number has not the bit `width`: sums of a's lanes l and l + width; the others: b's.
template <int width>
THIMBLE_BODY Lanes join_lanes(Lanes a, Lanes b) noexcept {
  return pick_lanes<[](int l) { return (l & width ? 16 : 0) + l; }>(a, b) +
         pick_lanes<[](int l) { return (l & width ? 16 : 0) + (l ^ width); }>(a, b);
}

// Lane i: fold(sums[i]).
THIMBLE_BODY Lanes fold_all(Lanes* sums) noexcept {
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) sums[i] = join_lanes<8>(sums[i], sums[i + 8]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) sums[i] = join_lanes<4>(sums[i], sums[i + 4]);
  return join_lanes<1>(join_lanes<2>(sums[0], sums[2]), join_lanes<2>(sums[1], sums[3]));
}

// Minima and maxima: GCC 12 takes other choices between vectors apart into scalars.
THIMBLE_BODY Lanes at_most(Lanes x, Lanes bound) noexcept { return x < bound ? x : bound; }
THIMBLE_BODY Lanes at_least(Lanes x, Lanes bound) noexcept { return x > bound ? x : bound; }

// The largest of the lanes.
THIMBLE_BODY float largest_lane(Lanes v) noexcept {
  v = at_least(v, swap_lanes<8>(v));
  v = at_least(v, swap_lanes<4>(v));
  v = at_least(v, swap_lanes<2>(v));
  return v[0] < v[1] ? v[1] : v[0];
}

// 2^x for x below 128; 0 from -127 down. A polynomial of degree 6 for the fraction (relative error below 2e-7).
THIMBLE_BODY Lanes exp2_lanes(Lanes x) noexcept {
  const Lanes clamped = at_least(x, Lanes{} - 127.0f);
  const Lanes shifted = clamped + 12582912.0f;  // 1.5 * 2^23: rounds to an integer, which ends up in the lowest bits
  const Lanes r = clamped - (shifted - 12582912.0f);
  Lanes p = 1.535336188e-4f * r + 1.339887440e-3f;
  p = p * r + 9.618437357e-3f;
  p = p * r + 5.550332471e-2f;
  p = p * r + 2.402264791e-1f;
  p = p * r + 6.931472029e-1f;
  p = p * r + 1.0f;
  const LaneWords power = (reinterpret_cast<const LaneWords&>(shifted) + 127u) << 23;
  return p * reinterpret_cast<const Lanes&>(power);
}

}  // namespace thimble
