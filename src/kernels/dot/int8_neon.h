// What the int8 kernels of AArch64 share. Each of their files includes this once, under its own target; all of it is
// the file's own, so that no copy made for a wider instruction set is linked into a narrower one.
//
// 16 rows of the weight are four quarters, one vector of int32 each. Codes meet activations as signed bytes: those of
// eight bits, which are codes about 128, as the numbers that they stand for, which takes no correction for the zero.
//
// Products<kBits>, of the including file: sums of products of codes of so many bits, of one quarter with one row of x.
//   add<kQuad>(codes, x)  codes: of elements 4 kQuad .. 4 kQuad + 3 of a group, a row each four; x: the vector of
//                         activations that holds these elements
//   total()               the sums, in the order of rows
#pragma once

#include <arm_neon.h>

#include <utility>

#include "kernels/dot/int8_panel.h"

#define INLINE [[gnu::always_inline]] inline
#define LAMBDA __attribute__((always_inline))

namespace thimble {
namespace {

constexpr int kQuarters = 4;

INLINE int32_t first_sum(int bits, int32_t correction) noexcept { return bits < 8 ? correction : 0; }

// to[0..3] += number * (scale * x), all rounded.
INLINE float32x4_t plus_group(float32x4_t to, int32x4_t number, float32x4_t scale, float x) noexcept {
  return vaddq_f32(to, vmulq_f32(vcvtq_f32_s32(number), vmulq_n_f32(scale, x)));
}

// The sums of row `row` of x with quarter h of a panel's group g, a group having G elements.
template <int G, bool kOffsets>
INLINE void put_group(const Int8Panel& panel, const Int8Piece& piece, int64_t row, int64_t g, int h, int32x4_t number,
                      float* sums, float* rests) noexcept {
  const int64_t block = (piece.first + g * G) / kDotBlock;
  const float x = piece.x.scales(row)[block];
  vst1q_f32(sums + 4 * h, plus_group(vld1q_f32(sums + 4 * h), number, vld1q_f32(panel.scales[g] + 4 * h), x));
  if constexpr (kOffsets) {
    const float32x4_t offset = vmulq_n_f32(vld1q_f32(panel.offsets[g] + 4 * h), piece.x.sums(row)[block]);
    vst1q_f32(rests + 4 * h, vaddq_f32(vld1q_f32(rests + 4 * h), offset));
  }
}

// Codes of a panel as they meet activations.
template <int kBits>
INLINE int8x16_t numbers(const uint8_t* codes) noexcept {
  const uint8x16_t bytes = vld1q_u8(codes);
  return vreinterpretq_s8_u8(kBits < 8 ? bytes : veorq_u8(bytes, vdupq_n_u8(0x80)));
}

// R rows of x with a panel: its codes are loaded once for all of them.
template <template <int> class Products, int R, int G, bool kOffsets, int kBits>
void multiply_rows(const Int8Panel& panel, const Int8Piece& piece, int64_t row, float* sums, float* rests) noexcept {
  for (int64_t g = 0; g < piece.count / G; ++g) {
    Products<kBits> products[R][kQuarters];
    int8x16_t x[R][G / 16];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
      for (int i = 0; i < G / 16; ++i) x[r][i] = vld1q_s8(piece.x.codes(row + r) + piece.first + g * G + 16 * i);
    const auto add = [&]<int kQuad>() LAMBDA {
#pragma GCC unroll 4
      for (int h = 0; h < kQuarters; ++h) {
        const int8x16_t codes = numbers<kBits>(panel.codes[g * (G / 4) + kQuad][4 * h]);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) products[r][h].template add<kQuad>(codes, x[r][kQuad / 4]);
      }
    };
    [&]<int... kQuad>(std::integer_sequence<int, kQuad...>) LAMBDA { (add.template operator()<kQuad>(), ...); }
    (std::make_integer_sequence<int, G / 4>());
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const int32x4_t first = vdupq_n_s32(first_sum(kBits, piece.x.corrections(row + r)[piece.first / G + g]));
#pragma GCC unroll 4
      for (int h = 0; h < kQuarters; ++h)
        put_group<G, kOffsets>(panel, piece, row + r, g, h, vaddq_s32(first, products[r][h].total()),
                               sums + r * kDotRows, rests + r * kDotRows);
    }
  }
}

// Formats of interleaved rows (codecs/interleaved.h): of part I of a block and quarter h of the rows, codes of elements
// 4 q .. 4 q + 3 as they meet activations, the scale of a group and the offset. Quarter h of the block's f16 numbers i,
// and of its words i:
INLINE float32x4_t number(const std::byte* block, int i, int h) noexcept {
  return vcvt_f32_f16(vld1_f16(reinterpret_cast<const float16_t*>(block + 32 * i + 8 * h)));
}
template <int kHalves>
INLINE uint8x16_t word(const std::byte* block, int i, int h) noexcept {
  return vld1q_u8(reinterpret_cast<const uint8_t*>(block + 32 * kHalves + 64 * i + 16 * h));
}
INLINE uint8x16_t bytes_and(uint8x16_t v, uint8_t mask) noexcept { return vandq_u8(v, vdupq_n_u8(mask)); }
INLINE uint8x16_t nibbles(uint8x16_t bytes, bool high) noexcept {
  return high ? vshrq_n_u8(bytes, 4) : bytes_and(bytes, 15);
}
// Each byte moved to the left, by less than nothing to the right.
INLINE uint8x16_t bytes_moved(uint8x16_t v, int by) noexcept {
  return vshlq_u8(v, vdupq_n_s8(static_cast<int8_t>(by)));
}
INLINE uint32x4_t words_moved(uint8x16_t v, int by) noexcept {
  return vshlq_u32(vreinterpretq_u32_u8(v), vdupq_n_s32(by));
}

template <int kHalves>
struct Plain {
  static constexpr int kParts = 1, kGroup = 32;
  static constexpr bool kOffsets = kHalves == 2;
  template <int>
  INLINE static float32x4_t scale(const std::byte* block, int h, int) noexcept {
    return number(block, 0, h);
  }
  template <int>
  INLINE static float32x4_t offset(const std::byte* block, int h) noexcept {
    return number(block, 1, h);
  }
};
template <int kHalves>
struct Q4 : Plain<kHalves> {
  static constexpr int kBytes = 16 + 2 * kHalves, kBits = 4;
  template <int>
  INLINE static uint8x16_t quad(const std::byte* block, int h, int q) noexcept {
    return nibbles(word<kHalves>(block, q % 4, h), q >= 4);
  }
};
template <int kHalves>
struct Q5 : Plain<kHalves> {
  static constexpr int kBytes = 20 + 2 * kHalves, kBits = 5;
  template <int>
  INLINE static uint8x16_t quad(const std::byte* block, int h, int q) noexcept {
    // Bits 4 q .. 4 q + 3 of the first word are the fifth ones: each byte takes the byte that they are in, and has its
    // own bit of them set or not.
    static constexpr uint8_t kWordOf[] = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
    const uint8x16_t at = vaddq_u8(vld1q_u8(kWordOf), vdupq_n_u8(static_cast<uint8_t>(q / 2)));
    const uint8x16_t bit = vreinterpretq_u8_u32(vdupq_n_u32(q % 2 ? 0x80402010u : 0x08040201u));
    const uint8x16_t set = vtstq_u8(vqtbl1q_u8(word<kHalves>(block, 0, h), at), bit);
    return vorrq_u8(nibbles(word<kHalves>(block, 1 + q % 4, h), q >= 4), bytes_and(set, 16));
  }
};
struct Q8_0 : Plain<1> {
  static constexpr int kBytes = 34, kBits = 8;
  template <int>
  INLINE static uint8x16_t quad(const std::byte* block, int h, int q) noexcept {
    return word<1>(block, q, h);
  }
};

// q4_K and q5_K: six bits of scale and minimum for each of eight groups, packed as in k_fit.h.
template <bool kFifth>
struct Q45K {
  static constexpr int kParts = 8, kGroup = 32, kBytes = kFifth ? 176 : 144, kBits = kFifth ? 5 : 4;
  static constexpr bool kOffsets = true;
  // Of part I: scales are in word 0 (`which` 0) and minima in word 1, those of later parts in nibbles of word 2 too.
  template <int I>
  INLINE static float32x4_t six_bits(const std::byte* block, int h, int which) noexcept {
    constexpr int kAt = 8 * (I % 4);
    const uint8x16_t low = word<2>(block, which, h);
    if constexpr (I < 4) return vcvtq_f32_u32(vandq_u32(words_moved(low, -kAt), vdupq_n_u32(63)));
    const uint32x4_t nibble = vandq_u32(words_moved(word<2>(block, 2, h), -kAt - 4 * which), vdupq_n_u32(15));
    return vcvtq_f32_u32(vorrq_u32(nibble, vandq_u32(words_moved(low, -kAt - 2), vdupq_n_u32(48))));
  }
  template <int I>
  INLINE static float32x4_t scale(const std::byte* block, int h, int) noexcept {
    return vmulq_f32(number(block, 0, h), six_bits<I>(block, h, 0));
  }
  template <int I>
  INLINE static float32x4_t offset(const std::byte* block, int h) noexcept {
    return vnegq_f32(vmulq_f32(number(block, 1, h), six_bits<I>(block, h, 1)));
  }
  template <int I>
  INLINE static uint8x16_t quad(const std::byte* block, int h, int q) noexcept {
    const uint8x16_t low = nibbles(word<2>(block, (kFifth ? 11 : 3) + 8 * (I / 2) + q, h), I % 2);
    if constexpr (!kFifth) return low;
    return vorrq_u8(low, bytes_and(bytes_moved(word<2>(block, 3 + q, h), 4 - I), 16));
  }
};

// q6_K: 16 groups of 16. Its words: interleaved.cpp.
struct Q6_K {
  static constexpr int kParts = 8, kGroup = 16, kBytes = 210, kBits = 6;
  static constexpr bool kOffsets = false;
  template <int I>
  INLINE static float32x4_t scale(const std::byte* block, int h, int group) noexcept {
    const uint32x4_t high = words_moved(word<1>(block, I / 2, h), 24 - 8 * (2 * (I % 2) + group));
    return vmulq_f32(number(block, 0, h), vcvtq_f32_s32(vshrq_n_s32(vreinterpretq_s32_u32(high), 24)));
  }
  template <int I>
  INLINE static float32x4_t offset(const std::byte*, int) noexcept {
    return vdupq_n_f32(0);
  }
  template <int I>
  INLINE static uint8x16_t quad(const std::byte* block, int h, int q) noexcept {
    const auto six = [&](int i) LAMBDA { return word<1>(block, 4 + 6 * I + i, h); };
    if (q < 6) return bytes_and(six(q), 63);
    const int i = 3 * (q - 6);
    const uint8x16_t middle = bytes_and(vshrq_n_u8(six(i + 1), 4), 12);
    return vorrq_u8(vorrq_u8(vshrq_n_u8(six(i), 6), middle), bytes_and(vshrq_n_u8(six(i + 2), 2), 48));
  }
};

// Part I of a block: 32 elements of 16 rows. sum, rest: of the four quarters.
template <template <int> class Products, class F, int I>
INLINE void multiply_part(const std::byte* block, const Int8Rows& x, int64_t row, int64_t b, float32x4_t* sum,
                          float32x4_t* rest) noexcept {
  constexpr int kGroups = 32 / F::kGroup, kQuads = F::kGroup / 4;
  const int8x16_t codes[2] = {vld1q_s8(x.codes(row) + 32 * b), vld1q_s8(x.codes(row) + 32 * b + 16)};
  const float x_scale = x.scales(row)[b];
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
    Products<F::kBits> products[kQuarters];
    const auto add = [&]<int kQuad>() LAMBDA {
      const int q = g * kQuads + kQuad;
#pragma GCC unroll 4
      for (int h = 0; h < kQuarters; ++h)
        products[h].template add<kQuad>(vreinterpretq_s8_u8(F::template quad<I>(block, h, q)), codes[q / 4]);
    };
    [&]<int... kQuad>(std::integer_sequence<int, kQuad...>) LAMBDA { (add.template operator()<kQuad>(), ...); }
    (std::make_integer_sequence<int, kQuads>());
    const int32x4_t first = vdupq_n_s32(first_sum(F::kBits, x.corrections(row)[b * kGroups + g]));
#pragma GCC unroll 4
    for (int h = 0; h < kQuarters; ++h)
      sum[h] = plus_group(sum[h], vaddq_s32(first, products[h].total()), F::template scale<I>(block, h, g), x_scale);
  }
  if constexpr (F::kOffsets)
#pragma GCC unroll 4
    for (int h = 0; h < kQuarters; ++h)
      rest[h] = vaddq_f32(rest[h], vmulq_n_f32(F::template offset<I>(block, h), x.sums(row)[b]));
  // GCC would load what later parts read, too, which takes more registers than there are.
  asm volatile("" ::: "memory");
}

// One row of x with interleaved rows: codes stay in registers.
template <template <int> class Products, class F>
void multiply_row(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept {
  float32x4_t sum[kQuarters], rest[kQuarters];
  for (int h = 0; h < kQuarters; ++h) sum[h] = vld1q_f32(sums + 4 * h), rest[h] = vld1q_f32(rests + 4 * h);
  const auto parts = [&]<int... I>(std::integer_sequence<int, I...>, int64_t b) LAMBDA {
    (multiply_part<Products, F, I>(group + b * F::kBytes * kDotRows, piece.x, piece.row,
                                   piece.first / 32 + F::kParts * b + I, sum, rest),
     ...);
  };
  for (int64_t b = 0; b < piece.count / 32 / F::kParts; ++b) parts(std::make_integer_sequence<int, F::kParts>{}, b);
  for (int h = 0; h < kQuarters; ++h) vst1q_f32(sums + 4 * h, sum[h]), vst1q_f32(rests + 4 * h, rest[h]);
}

// Kernels by Int8Kind.
template <template <int> class Products>
constexpr MultiplyOneInt8 kOnes[] = {multiply_row<Products, Q4<1>>,      multiply_row<Products, Q4<2>>,
                                     multiply_row<Products, Q5<1>>,      multiply_row<Products, Q5<2>>,
                                     multiply_row<Products, Q8_0>,       multiply_row<Products, Q45K<false>>,
                                     multiply_row<Products, Q45K<true>>, multiply_row<Products, Q6_K>};

// Rows [first, m) of x with a panel.
template <template <int> class Products, int G, bool kOffsets, int kBits>
void multiply_rows_from(int64_t first, const Int8Panel& panel, const Int8Piece& piece, int64_t m, float* sums,
                        float* rests) noexcept {
  int64_t r = first;
  const auto go = [&](auto kernel, int64_t rows) {
    for (; r + rows <= m; r += rows) kernel(panel, piece, piece.row + r, sums + r * kDotRows, rests + r * kDotRows);
  };
  go(multiply_rows<Products, Products<kBits>::kRows, G, kOffsets, kBits>, Products<kBits>::kRows);
  go(multiply_rows<Products, 1, G, kOffsets, kBits>, 1);
}

}  // namespace
}  // namespace thimble

#undef INLINE
#undef LAMBDA
