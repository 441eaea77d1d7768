// 16 numbers side by side in as many registers of some bytes as they take, for kernel bodies that keep numbers from one
// pass of a loop to the next. A vector that is wider than the registers GCC keeps in memory between statements, and
// takes choices between its elements apart into scalars. Every width gives the same bits.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "codecs/dispatch.h"
#include "kernels/lanes.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace thimble {

template <class T, int bytes>
struct InRegisters {
  typedef T Register __attribute__((vector_size(bytes)));
  static constexpr int kEach = bytes / 4, kRegisters = kLanes / kEach;
  Register in[kRegisters];
};
template <int bytes>
using RegisterLanes = InRegisters<float, bytes>;
template <int bytes>
using RegisterWords = InRegisters<uint32_t, bytes>;

// {f(0), f(1), ...} of the numbers of registers, which are constants.
template <class Vector, class F, int... i>
THIMBLE_BODY Vector each_register(const F& f, std::integer_sequence<int, i...>) noexcept {
  return {{f(std::integral_constant<int, i>())...}};
}
template <class Vector, class F>
THIMBLE_BODY Vector each_register(const F& f) noexcept {
  return each_register<Vector>(f, std::make_integer_sequence<int, Vector::kRegisters>());
}

template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator+(const InRegisters<T, bytes>& a, const InRegisters<T, bytes>& b) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] + b.in[i]; });
}
template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator-(const InRegisters<T, bytes>& a, const InRegisters<T, bytes>& b) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] - b.in[i]; });
}
template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator*(const InRegisters<T, bytes>& a, const InRegisters<T, bytes>& b) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] * b.in[i]; });
}
template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator&(const InRegisters<T, bytes>& a, const InRegisters<T, bytes>& b) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] & b.in[i]; });
}
template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator<<(const InRegisters<T, bytes>& a, int by) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] << by; });
}
template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator>>(const InRegisters<T, bytes>& a, int by) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] >> by; });
}

template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator+(const InRegisters<T, bytes>& a, std::type_identity_t<T> b) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] + b; });
}
template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator-(const InRegisters<T, bytes>& a, std::type_identity_t<T> b) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] - b; });
}
template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator*(const InRegisters<T, bytes>& a, std::type_identity_t<T> b) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] * b; });
}
template <class T, int bytes>
THIMBLE_BODY InRegisters<T, bytes> operator&(const InRegisters<T, bytes>& a, std::type_identity_t<T> b) noexcept {
  return each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) { return a.in[i] & b; });
}

template <class Vector, class T>
THIMBLE_BODY Vector all(T x) noexcept {
  return Vector{} + x;
}

template <class Vector>
THIMBLE_BODY Vector load(const void* at) noexcept {
  return each_register<Vector>([&](auto i) __attribute__((always_inline)) {
    typename Vector::Register x;
    std::memcpy(&x, static_cast<const std::byte*>(at) + i * sizeof x, sizeof x);
    return x;
  });
}
// In the lowest bits of word i, byte i of 16, and anything above.
template <int first>
constexpr int quarter(int l) {
  return (first + l) / 4;
}
template <int bytes>
THIMBLE_BODY RegisterWords<bytes> load_bytes(const std::byte* at) noexcept {
  using Quarters = uint32_t __attribute__((vector_size(16)));
  alignas(64) static constexpr uint32_t kShifts[] = {0, 8, 16, 24, 0, 8, 16, 24, 0, 8, 16, 24, 0, 8, 16, 24};
  constexpr int kEach = RegisterWords<bytes>::kEach;
  Quarters all;
  std::memcpy(&all, at, sizeof all);
  const auto shifts = load<RegisterWords<bytes>>(kShifts);
  return each_register<RegisterWords<bytes>>([&](auto i) __attribute__((always_inline)) {
    return pick_lanes<kEach, quarter<i * kEach>>(all, all) >> shifts.in[i];
  });
}
template <class T, int bytes>
THIMBLE_BODY void store(const InRegisters<T, bytes>& x, void* to) noexcept {
  each_register<InRegisters<T, bytes>>([&](auto i) __attribute__((always_inline)) {
    std::memcpy(static_cast<std::byte*>(to) + i * bytes, &x.in[i], bytes);
    return x.in[i];
  });
}

template <int bytes>
THIMBLE_BODY RegisterWords<bytes> bits_of(const RegisterLanes<bytes>& x) noexcept {
  using Words = typename RegisterWords<bytes>::Register;
  return each_register<RegisterWords<bytes>>([&](auto i) __attribute__((always_inline)) { return (Words)x.in[i]; });
}
template <int bytes>
THIMBLE_BODY RegisterLanes<bytes> lanes_of(const RegisterWords<bytes>& x) noexcept {
  using Numbers = typename RegisterLanes<bytes>::Register;
  return each_register<RegisterLanes<bytes>>([&](auto i) __attribute__((always_inline)) { return (Numbers)x.in[i]; });
}

// Of what is not a number: the bound.
template <int bytes>
THIMBLE_BODY RegisterLanes<bytes> at_most(const RegisterLanes<bytes>& x, const RegisterLanes<bytes>& bound) noexcept {
  return each_register<RegisterLanes<bytes>>([&](auto i) __attribute__((always_inline)) {
    return x.in[i] < bound.in[i] ? x.in[i] : bound.in[i];
  });
}
template <int bytes>
THIMBLE_BODY RegisterLanes<bytes> at_least(const RegisterLanes<bytes>& x, const RegisterLanes<bytes>& bound) noexcept {
  return each_register<RegisterLanes<bytes>>([&](auto i) __attribute__((always_inline)) {
    return x.in[i] > bound.in[i] ? x.in[i] : bound.in[i];
  });
}

// Element l of a register with `each` of them: of the second of two where l has the bit `width`, else of the first; and
// the one that is `width` away.
template <int width, int each>
constexpr int own(int l) {
  return (l & width ? each : 0) + l;
}
template <int width, int each>
constexpr int other(int l) {
  return (l & width ? each : 0) + (l ^ width);
}
// Lanes that have not the bit `width` in their number are a's, the others are b's: f(lane l, lane l ^ width).
template <int width, int bytes, class F>
THIMBLE_BODY RegisterLanes<bytes> join(const RegisterLanes<bytes>& a, const RegisterLanes<bytes>& b,
                                       const F& f) noexcept {
  using In = RegisterLanes<bytes>;
  return each_register<In>([&](auto i) __attribute__((always_inline)) {
    if constexpr (width >= In::kEach) {
      const In& from = (i * In::kEach & width) != 0 ? b : a;
      return f(from.in[i], from.in[i ^ (width / In::kEach)]);
    } else {
      return f(pick_lanes<In::kEach, own<width, In::kEach>>(a.in[i], b.in[i]),
               pick_lanes<In::kEach, other<width, In::kEach>>(a.in[i], b.in[i]));
    }
  });
}
inline constexpr auto kPlus = [](auto x, auto y) __attribute__((always_inline)) { return x + y; };
inline constexpr auto kLarger = [](auto x, auto y) __attribute__((always_inline)) { return x > y ? x : y; };

// The sum over lanes, in the order of dot() in rows.h.
template <int bytes>
THIMBLE_BODY float fold(RegisterLanes<bytes> v) noexcept {
  v = join<8>(v, v, kPlus), v = join<4>(v, v, kPlus), v = join<2>(v, v, kPlus);
  return v.in[0][0] + v.in[0][1];
}
template <int bytes>
THIMBLE_BODY float largest_lane(RegisterLanes<bytes> v) noexcept {
  v = join<8>(v, v, kLarger), v = join<4>(v, v, kLarger), v = join<2>(v, v, kLarger);
  return v.in[0][0] < v.in[0][1] ? v.in[0][1] : v.in[0][0];
}
// Lane i: fold(sums[i]).
template <int bytes>
THIMBLE_BODY RegisterLanes<bytes> fold_all(RegisterLanes<bytes>* sums) noexcept {
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) sums[i] = join<8>(sums[i], sums[i + 8], kPlus);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) sums[i] = join<4>(sums[i], sums[i + 4], kPlus);
  return join<1>(join<2>(sums[0], sums[2], kPlus), join<2>(sums[1], sums[3], kPlus), kPlus);
}

// Rounded to bf16, to nearest even, as round_bf16() of finite numbers: in the upper halves, and below them anything.
template <int bytes>
THIMBLE_BODY RegisterWords<bytes> round_finite(const RegisterLanes<bytes>& x) noexcept {
  const RegisterWords<bytes> bits = bits_of(x);
  return bits + 0x7fffu + ((bits >> 16) & 1u);
}
template <int bytes>
THIMBLE_BODY RegisterLanes<bytes> rounded(const RegisterLanes<bytes>& x) noexcept {
  return lanes_of(round_finite(x) & 0xffff0000u);
}
template <int bytes>
THIMBLE_BODY void store_bf16(const RegisterLanes<bytes>& x, uint16_t* to) noexcept {
  const LaneWords words = __builtin_bit_cast(LaneWords, round_finite(x) >> 16);
  *reinterpret_cast<LaneHalves*>(to) = __builtin_convertvector(words, LaneHalves);
}

// The even, and the odd ones of 32 bf16.
template <int bytes>
struct RegisterPair {
  RegisterLanes<bytes> even, odd;
};
template <int bytes>
THIMBLE_BODY RegisterPair<bytes> pair_of(const RegisterWords<bytes>& words) noexcept {
  return {lanes_of(words << 16), lanes_of(words & 0xffff0000u)};
}
// 32 numbers in order: element j of the lower, and of the upper half of what two registers with `each` elements become.
template <int each>
constexpr int lower(int j) {
  return j / 2 + j % 2 * each;
}
template <int each>
constexpr int upper(int j) {
  return each / 2 + lower<each>(j);
}
template <int bytes>
THIMBLE_BODY void interleave(const RegisterPair<bytes>& pair, float* to) noexcept {
  constexpr int kEach = RegisterLanes<bytes>::kEach;
  each_register<RegisterLanes<bytes>>([&](auto i) __attribute__((always_inline)) {
    const auto low = pick_lanes<kEach, lower<kEach>>(pair.even.in[i], pair.odd.in[i]);
    const auto high = pick_lanes<kEach, upper<kEach>>(pair.even.in[i], pair.odd.in[i]);
    std::memcpy(to + 2 * i * kEach, &low, bytes);
    std::memcpy(to + (2 * i + 1) * kEach, &high, bytes);
    return low;
  });
}

// levels[code] of the four lowest bits of each word.
template <int bytes>
THIMBLE_BODY RegisterLanes<bytes> look_up(const std::array<float, 16>& levels,
                                          const RegisterWords<bytes>& codes) noexcept {
  using Numbers = typename RegisterLanes<bytes>::Register;
#if defined(__aarch64__)
  const uint8x16x4_t table = vld1q_u8_x4(reinterpret_cast<const uint8_t*>(levels.data()));
  const auto places = (codes & 15u) * 0x04040404u + 0x03020100u;  // of a level's four bytes
  return each_register<RegisterLanes<bytes>>([&](auto i) __attribute__((always_inline)) {
    return (Numbers)vqtbl4q_u8(table, (uint8x16_t)places.in[i]);
  });
#else
  const auto table = load<RegisterLanes<bytes>>(levels.data());
  return each_register<RegisterLanes<bytes>>([&](auto i) __attribute__((always_inline)) {
    Numbers found = {};
#if !defined(__clang__)  // which has no shuffle by a variable
    if constexpr (bytes == 64)
      found = __builtin_shuffle(table.in[0], codes.in[i]);
    else if constexpr (bytes == 32)
      found = __builtin_shuffle(table.in[0], table.in[1], codes.in[i]);
    else
#endif
      for (int l = 0; l < RegisterLanes<bytes>::kEach; ++l) found[l] = levels[codes.in[i][l] & 15u];
    return found;
  });
#endif
}

// 2^x for x below 128; 0 from -127 down. A polynomial of degree 6 for the fraction (relative error below 2e-7).
template <int bytes>
THIMBLE_BODY RegisterLanes<bytes> exp2_lanes(const RegisterLanes<bytes>& x) noexcept {
  const auto clamped = at_least(x, all<RegisterLanes<bytes>>(-127.0f));
  const auto shifted = clamped + 12582912.0f;  // 1.5 * 2^23: rounds to an integer, which ends up in the lowest bits
  const auto r = clamped - (shifted - 12582912.0f);
  auto p = r * 1.535336188e-4f + 1.339887440e-3f;
  p = p * r + 9.618437357e-3f;
  p = p * r + 5.550332471e-2f;
  p = p * r + 2.402264791e-1f;
  p = p * r + 6.931472029e-1f;
  p = p * r + 1.0f;
  return p * lanes_of((bits_of(shifted) + 127u) << 23);
}

}  // namespace thimble
