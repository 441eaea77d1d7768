// What the int8 kernels of x86 share whose vectors have 256 bits. Each of their files includes this once, under its own
// target; all of it is the file's own, so that no copy made for a wider instruction set is linked into a narrower one.
//
// 16 rows of the weight are two halves of eight, one vector of int32 each.
//
// Products<kBits, kQuads>, of the including file: sums of products of codes of so many bits, in groups of so many
// quads, of one half with one row of x.
//   Products(correction)  of the group and the row of x
//   add<kQuad>(codes, x)  codes: of elements 4 kQuad .. 4 kQuad + 3 of the group, a row each four; x: those elements,
//                         eight times. Called once for each quad, in their order
//   total()               the sums, in the order of rows
#pragma once

#include <immintrin.h>

#include <cstring>
#include <utility>

#include "kernels/cpu.h"
#include "kernels/dot/int8_panel.h"

#define INLINE [[gnu::always_inline]] inline
#define LAMBDA __attribute__((always_inline))

namespace thimble {
namespace {

INLINE __m256i load(const void* at) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
INLINE __m256i broadcast_quad(const int8_t* at) noexcept {
  int32_t quad;
  std::memcpy(&quad, at, 4);
  return _mm256_set1_epi32(quad);
}

// body.operator()<0>(), <1>() and so on.
template <int kCount>
INLINE void unrolled(auto body) noexcept {
  [&]<int... I>(std::integer_sequence<int, I...>) LAMBDA { (body.template operator()<I>(), ...); }
  (std::make_integer_sequence<int, kCount>{});
}

// What offsets add to the results of R rows of x: products of numbers of the groups.
template <int R, int G>
INLINE void add_offsets(const Int8Panel& panel, const Int8Piece& piece, int64_t row, float* rests) noexcept {
  __m256 rest[R][2];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) rest[r][half] = _mm256_loadu_ps(rests + r * kDotRows + 8 * half);
  for (int64_t g = 0; g < piece.count / G; ++g) {
    const __m256 low = _mm256_load_ps(panel.offsets[g]), high = _mm256_load_ps(panel.offsets[g] + 8);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const __m256 sum = _mm256_set1_ps(piece.x.sums(row + r)[piece.first / kDotBlock + g]);
      rest[r][0] = _mm256_add_ps(rest[r][0], _mm256_mul_ps(low, sum));
      rest[r][1] = _mm256_add_ps(rest[r][1], _mm256_mul_ps(high, sum));
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) _mm256_storeu_ps(rests + r * kDotRows + 8 * half, rest[r][half]);
}

// R rows of x with a panel, both halves of its rows: their codes are loaded once for all of them.
template <template <int, int> class Products, int R, int G, bool kOffsets, int kBits>
void multiply_rows(const Int8Panel& panel, const Int8Piece& piece, int64_t row, float* sums, float* rests) noexcept {
  constexpr int kQuads = G / 4;
  const int8_t* codes[R];
  const float* scales[R];
  for (int r = 0; r < R; ++r) {
    codes[r] = piece.x.codes(row + r) + piece.first;
    scales[r] = piece.x.scales(row + r) + piece.first / kDotBlock;
  }
  const auto correction = [&](int r, int64_t g) LAMBDA { return piece.x.corrections(row + r)[piece.first / G + g]; };
  for (int64_t g = 0; g < piece.count / G; ++g) {
    Products<kBits, kQuads> low[R], high[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) low[r].begin(correction(r, g)), high[r].begin(correction(r, g));
    unrolled<kQuads>([&]<int kQuad>() LAMBDA {
      const __m256i of_low = load(panel.codes[g * kQuads + kQuad][0]),
                    of_high = load(panel.codes[g * kQuads + kQuad][8]);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const __m256i x = broadcast_quad(codes[r] + g * G + 4 * kQuad);
        low[r].template add<kQuad>(of_low, x), high[r].template add<kQuad>(of_high, x);
      }
    });
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        float* const sum = sums + r * kDotRows + 8 * half;
        const __m256i total = half == 0 ? low[r].total() : high[r].total();
        const __m256 scale =
            _mm256_mul_ps(_mm256_load_ps(panel.scales[g] + 8 * half), _mm256_set1_ps(scales[r][g * G / kDotBlock]));
        const __m256 of_group = _mm256_mul_ps(_mm256_cvtepi32_ps(total), scale);
        _mm256_storeu_ps(sum, _mm256_add_ps(_mm256_loadu_ps(sum), of_group));
      }
  }
  if constexpr (kOffsets) add_offsets<R, G>(panel, piece, row, rests);
}

template <template <int, int> class Products, int G, bool kOffsets, int kBits>
void multiply(const Int8Panel& panel, const Int8Piece& piece, int64_t m, float* sums, float* rests) noexcept {
  int64_t r = 0;
  const auto go = [&](auto kernel, int64_t rows) {
    for (; r + rows <= m; r += rows) kernel(panel, piece, piece.row + r, sums + r * kDotRows, rests + r * kDotRows);
  };
  go(multiply_rows<Products, 4, G, kOffsets, kBits>, 4);
  go(multiply_rows<Products, 2, G, kOffsets, kBits>, 2);
  go(multiply_rows<Products, 1, G, kOffsets, kBits>, 1);
}

// MultiplyInt8 of the including file.
template <template <int, int> class Products>
void multiply_panel(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m, float* sums,
                    float* rests) noexcept {
  by_format(format, [&]<int G, bool kOffsets, int kBits>() {
    multiply<Products, G, kOffsets, kBits>(panel, piece, m, sums, rests);
  });
}

// Formats of interleaved rows (codecs/interleaved.h): of part I of a block and half h of the rows, codes of elements
// 4 q .. 4 q + 3, the scale of a group and the offset. Half h of the block's f16 numbers i, and of its words i:
INLINE __m256 number(const std::byte* block, int i, int h) noexcept {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block + 32 * i + 16 * h)));
}
template <int kHalves>
INLINE __m256i word(const std::byte* block, int i, int h) noexcept {
  return load(block + 32 * kHalves + 64 * i + 32 * h);
}
INLINE __m256i bytes_and(__m256i v, int mask) noexcept {
  return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(mask)));
}
INLINE __m256i nibbles(__m256i bytes, bool high) noexcept {
  return bytes_and(high ? _mm256_srli_epi16(bytes, 4) : bytes, 15);
}

template <int kHalves>
struct Plain {
  static constexpr int kParts = 1, kGroup = 32;
  static constexpr bool kOffsets = kHalves == 2;
  template <int>
  INLINE static __m256 scale(const std::byte* block, int h, int) noexcept {
    return number(block, 0, h);
  }
  template <int>
  INLINE static __m256 offset(const std::byte* block, int h) noexcept {
    return number(block, 1, h);
  }
};
template <int kHalves>
struct Q4 : Plain<kHalves> {
  static constexpr int kBytes = 16 + 2 * kHalves, kBits = 4;
  template <int>
  INLINE static __m256i quad(const std::byte* block, int h, int q) noexcept {
    return nibbles(word<kHalves>(block, q % 4, h), q >= 4);
  }
};
template <int kHalves>
struct Q5 : Plain<kHalves> {
  static constexpr int kBytes = 20 + 2 * kHalves, kBits = 5;
  template <int>
  INLINE static __m256i quad(const std::byte* block, int h, int q) noexcept {
    // Bits 4 q .. 4 q + 3 of the first word are the fifth ones: byte i takes the byte they are in, and has bit i of its
    // half set or not.
    const __m256i byte =
        _mm256_shuffle_epi8(word<kHalves>(block, 0, h),
                            _mm256_add_epi8(_mm256_set1_epi8(static_cast<char>(q / 2)),
                                            _mm256_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12, 0, 0,
                                                             0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12)));
    const __m256i bit = _mm256_set1_epi32(q % 2 ? static_cast<int>(0x80402010u) : 0x08040201);
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(byte, bit), bit);
    return _mm256_or_si256(nibbles(word<kHalves>(block, 1 + q % 4, h), q >= 4), bytes_and(set, 16));
  }
};
struct Q8_0 : Plain<1> {
  static constexpr int kBytes = 34, kBits = 8;
  template <int>
  INLINE static __m256i quad(const std::byte* block, int h, int q) noexcept {
    return _mm256_xor_si256(word<1>(block, q, h), _mm256_set1_epi8(-128));
  }
};

// q4_K and q5_K: six bits of scale and minimum for each of eight groups, packed as in k_fit.h.
template <bool kFifth>
struct Q45K {
  static constexpr int kParts = 8, kGroup = 32, kBytes = kFifth ? 176 : 144, kBits = kFifth ? 5 : 4;
  static constexpr bool kOffsets = true;
  // Of part I: scales are in word 0 (`which` 0) and minima in word 1, those of later parts in nibbles of word 2 too.
  template <int I>
  INLINE static __m256 six_bits(const std::byte* block, int h, int which) noexcept {
    constexpr int kAt = 8 * (I % 4);
    const __m256i low = word<2>(block, which, h), mask = _mm256_set1_epi32(63);
    if constexpr (I < 4) return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(low, kAt), mask));
    const __m256i nibble =
        _mm256_and_si256(_mm256_srli_epi32(word<2>(block, 2, h), kAt + 4 * which), _mm256_set1_epi32(15));
    const __m256i upper = _mm256_and_si256(_mm256_srli_epi32(low, kAt + 2), _mm256_set1_epi32(48));
    return _mm256_cvtepi32_ps(_mm256_or_si256(nibble, upper));
  }
  template <int I>
  INLINE static __m256 scale(const std::byte* block, int h, int) noexcept {
    return _mm256_mul_ps(number(block, 0, h), six_bits<I>(block, h, 0));
  }
  template <int I>
  INLINE static __m256 offset(const std::byte* block, int h) noexcept {
    const __m256 value = _mm256_mul_ps(number(block, 1, h), six_bits<I>(block, h, 1));
    return _mm256_xor_ps(value, _mm256_set1_ps(-0.0f));
  }
  template <int I>
  INLINE static __m256i quad(const std::byte* block, int h, int q) noexcept {
    const __m256i low = nibbles(word<2>(block, (kFifth ? 11 : 3) + 8 * (I / 2) + q, h), I % 2);
    if constexpr (!kFifth) return low;
    const __m256i bits = word<2>(block, 3 + q, h);
    const __m256i fifth = I > 4 ? _mm256_srli_epi16(bits, I - 4) : _mm256_slli_epi16(bits, 4 - I);
    return _mm256_or_si256(low, bytes_and(fifth, 16));
  }
};

// q6_K: 16 groups of 16. Its words: interleaved.cpp.
struct Q6_K {
  static constexpr int kParts = 8, kGroup = 16, kBytes = 210, kBits = 6;
  static constexpr bool kOffsets = false;
  template <int I>
  INLINE static __m256 scale(const std::byte* block, int h, int group) noexcept {
    const __m256i high = _mm256_slli_epi32(word<1>(block, I / 2, h), 24 - 8 * (2 * (I % 2) + group));
    return _mm256_mul_ps(number(block, 0, h), _mm256_cvtepi32_ps(_mm256_srai_epi32(high, 24)));
  }
  template <int I>
  INLINE static __m256 offset(const std::byte*, int) noexcept {
    return _mm256_setzero_ps();
  }
  template <int I>
  INLINE static __m256i quad(const std::byte* block, int h, int q) noexcept {
    const auto six = [&](int i) LAMBDA { return word<1>(block, 4 + 6 * I + i, h); };
    if (q < 6) return bytes_and(six(q), 63);
    const int i = 3 * (q - 6);
    const __m256i low = bytes_and(_mm256_srli_epi16(six(i), 6), 3);
    const __m256i middle = bytes_and(_mm256_srli_epi16(six(i + 1), 4), 12);
    return _mm256_or_si256(_mm256_or_si256(low, middle), bytes_and(_mm256_srli_epi16(six(i + 2), 2), 48));
  }
};

constexpr int64_t kAhead = 6144;  // bytes that are fetched before they are read, where that helps (cpu.h)

// The running sums of one row of x with the two halves.
struct Running {
  __m256 sum[2], rest[2];
};

// Part I of a block: 32 elements of 16 rows.
template <template <int, int> class Products, class F, int I>
INLINE void step(const std::byte* block, const Int8Rows& x, int64_t row, int64_t b, Running& to) noexcept {
  constexpr int kGroups = 32 / F::kGroup, kQuads = F::kGroup / 4;
  const int8_t* const codes = x.codes(row) + 32 * b;
  const __m256 x_scale = _mm256_set1_ps(x.scales(row)[b]);
  unrolled<kGroups>([&]<int kOfGroup>() LAMBDA {
    Products<F::kBits, kQuads> products[2];
    const int32_t correction = x.corrections(row)[b * kGroups + kOfGroup];
    products[0].begin(correction), products[1].begin(correction);
    unrolled<kQuads>([&]<int kQuad>() LAMBDA {
      constexpr int q = kOfGroup * kQuads + kQuad;
      const __m256i quad = broadcast_quad(codes + 4 * q);
      products[0].template add<kQuad>(F::template quad<I>(block, 0, q), quad);
      products[1].template add<kQuad>(F::template quad<I>(block, 1, q), quad);
    });
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256 both = _mm256_mul_ps(F::template scale<I>(block, h, kOfGroup), x_scale);
      to.sum[h] = _mm256_add_ps(to.sum[h], _mm256_mul_ps(_mm256_cvtepi32_ps(products[h].total()), both));
    }
  });
  if constexpr (F::kOffsets)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256 offset = F::template offset<I>(block, h);
      to.rest[h] = _mm256_add_ps(to.rest[h], _mm256_mul_ps(offset, _mm256_set1_ps(x.sums(row)[b])));
    }
}

// One row of x with interleaved rows: codes stay in registers.
template <template <int, int> class Products, class F, bool kFetch>
void multiply_row(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept {
  Running to;
  for (int h = 0; h < 2; ++h) to.sum[h] = _mm256_loadu_ps(sums + 8 * h), to.rest[h] = _mm256_loadu_ps(rests + 8 * h);
  for (int64_t b = 0; b < piece.count / 32 / F::kParts; ++b)
    unrolled<F::kParts>([&]<int I>() LAMBDA {
      const std::byte* const block = group + b * F::kBytes * kDotRows;
      constexpr int64_t kBytes = F::kBytes * kDotRows, kLine = 64;
      constexpr int64_t kFirst = (I * kBytes / F::kParts + kLine - 1) / kLine * kLine;
#pragma GCC unroll 8
      for (int64_t at = kFirst; kFetch && at < (I + 1) * kBytes / F::kParts; at += kLine)
        __builtin_prefetch(block + kAhead + at);
      step<Products, F, I>(block, piece.x, piece.row, piece.first / 32 + F::kParts * b + I, to);
    });
  for (int h = 0; h < 2; ++h) _mm256_storeu_ps(sums + 8 * h, to.sum[h]), _mm256_storeu_ps(rests + 8 * h, to.rest[h]);
}

template <template <int, int> class Products, class F>
constexpr MultiplyOneInt8 kOne[] = {multiply_row<Products, F, false>, multiply_row<Products, F, true>};

// By Int8Kind.
template <template <int, int> class Products>
constexpr const MultiplyOneInt8* kOnes[] = {
    kOne<Products, Q4<1>>, kOne<Products, Q4<2>>,       kOne<Products, Q5<1>>,      kOne<Products, Q5<2>>,
    kOne<Products, Q8_0>,  kOne<Products, Q45K<false>>, kOne<Products, Q45K<true>>, kOne<Products, Q6_K>};

}  // namespace
}  // namespace thimble

#undef INLINE
#undef LAMBDA
