// int8 products with AVX2: products of unsigned and signed bytes, added in pairs to 16 bits (vpmaddubsw). 16 rows are
// two halves of eight.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "kernels/cpu.h"
#include "kernels/dot/int8_panel.h"

#define TARGET __attribute__((target("avx2,f16c")))
#define INLINE __attribute__((target("avx2,f16c"), always_inline)) inline
#define LAMBDA __attribute__((target("avx2,f16c"), always_inline))

namespace thimble {
namespace {

// How many pairs of products with an activation's code, of magnitude up to 127, may be added in 16 bits.
constexpr int together(int bits) { return bits == 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1; }

INLINE __m256i load(const void* at) noexcept { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
INLINE __m256i broadcast_quad(const int8_t* at) noexcept {
  int32_t quad;
  std::memcpy(&quad, at, 4);
  return _mm256_set1_epi32(quad);
}
// Pairs of products, in 16 bits. Bytes of eight bits are codes about 128: they lend their sign to the activations.
template <int kBits>
INLINE __m256i pairs(__m256i codes, __m256i x) noexcept {
  if constexpr (kBits < 8) return _mm256_maddubs_epi16(codes, x);
  const __m256i number = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
  return _mm256_maddubs_epi16(_mm256_abs_epi8(number), _mm256_sign_epi8(x, number));
}
INLINE __m256i widened(__m256i of_pairs) noexcept { return _mm256_madd_epi16(of_pairs, _mm256_set1_epi16(1)); }

// What the sums of products begin with: the correction of a group, which those about zero do not need.
template <int kBits>
INLINE __m256i begin(const int32_t* correction) noexcept {
  return _mm256_set1_epi32(kBits < 8 ? *correction : 0);
}

// R rows of x with a panel, both halves of its rows: their codes are loaded once for all of them.
template <int R, int G, bool kOffsets, int kBits>
TARGET void multiply_rows(const Int8Panel& panel, const Int8Piece& piece, int64_t row, float* sums,
                          float* rests) noexcept {
  constexpr int kQuads = G / 4, kTogether = std::min(kQuads, together(kBits));
  const int8_t* codes[R];
  const float* scales[R];
  for (int r = 0; r < R; ++r) {
    codes[r] = piece.x.codes(row + r) + piece.first;
    scales[r] = piece.x.scales(row + r) + piece.first / kDotBlock;
  }
  for (int64_t g = 0; g < piece.count / G; ++g) {
    __m256i total[R][2];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r)
      total[r][0] = total[r][1] = begin<kBits>(piece.x.corrections(row + r) + piece.first / G + g);
#pragma GCC unroll 8
    for (int first = 0; first < kQuads; first += kTogether) {
      __m256i pair[R][2];
#pragma GCC unroll 8
      for (int q = first; q < first + kTogether; ++q) {
        const __m256i low = load(panel.codes[g * kQuads + q][0]), high = load(panel.codes[g * kQuads + q][8]);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) {
          const __m256i x = broadcast_quad(codes[r] + g * G + 4 * q);
          const __m256i of_low = pairs<kBits>(low, x), of_high = pairs<kBits>(high, x);
          pair[r][0] = q == first ? of_low : _mm256_add_epi16(pair[r][0], of_low);
          pair[r][1] = q == first ? of_high : _mm256_add_epi16(pair[r][1], of_high);
        }
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        total[r][0] = _mm256_add_epi32(total[r][0], widened(pair[r][0]));
        total[r][1] = _mm256_add_epi32(total[r][1], widened(pair[r][1]));
      }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half)
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        float* const sum = sums + r * kDotRows + 8 * half;
        const __m256 scale =
            _mm256_mul_ps(_mm256_load_ps(panel.scales[g] + 8 * half), _mm256_set1_ps(scales[r][g * G / kDotBlock]));
        const __m256 of_group = _mm256_mul_ps(_mm256_cvtepi32_ps(total[r][half]), scale);
        _mm256_storeu_ps(sum, _mm256_add_ps(_mm256_loadu_ps(sum), of_group));
        if constexpr (kOffsets) {
          float* const rest = rests + r * kDotRows + 8 * half;
          const float row_sum = piece.x.sums(row + r)[piece.first / kDotBlock + g];
          const __m256 offset = _mm256_mul_ps(_mm256_load_ps(panel.offsets[g] + 8 * half), _mm256_set1_ps(row_sum));
          _mm256_storeu_ps(rest, _mm256_add_ps(_mm256_loadu_ps(rest), offset));
        }
      }
  }
}

template <int G, bool kOffsets, int kBits>
void multiply(const Int8Panel& panel, const Int8Piece& piece, int64_t m, float* sums, float* rests) noexcept {
  int64_t r = 0;
  const auto go = [&](auto kernel, int64_t rows) {
    for (; r + rows <= m; r += rows) kernel(panel, piece, piece.row + r, sums + r * kDotRows, rests + r * kDotRows);
  };
  go(multiply_rows<4, G, kOffsets, kBits>, 4);
  go(multiply_rows<2, G, kOffsets, kBits>, 2);
  go(multiply_rows<1, G, kOffsets, kBits>, 1);
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
template <class F, int I>
INLINE void step(const std::byte* block, const Int8Rows& x, int64_t row, int64_t b, Running& to) noexcept {
  constexpr int kGroups = 32 / F::kGroup, kQuads = F::kGroup / 4, kTogether = std::min(kQuads, together(F::kBits));
  const int8_t* const codes = x.codes(row) + 32 * b;
  const __m256 x_scale = _mm256_set1_ps(x.scales(row)[b]);
#pragma GCC unroll 2
  for (int g = 0; g < kGroups; ++g) {
    __m256i total[2];
    total[0] = total[1] = begin<F::kBits>(x.corrections(row) + b * kGroups + g);
#pragma GCC unroll 8
    for (int first = 0; first < kQuads; first += kTogether) {
      __m256i pair[2];
#pragma GCC unroll 8
      for (int i = first; i < first + kTogether; ++i) {
        const int q = g * kQuads + i;
        const __m256i quad = broadcast_quad(codes + 4 * q);
#pragma GCC unroll 2
        for (int h = 0; h < 2; ++h) {
          const __m256i of_quad = pairs<F::kBits>(F::template quad<I>(block, h, q), quad);
          pair[h] = i == first ? of_quad : _mm256_add_epi16(pair[h], of_quad);
        }
      }
#pragma GCC unroll 2
      for (int h = 0; h < 2; ++h) total[h] = _mm256_add_epi32(total[h], widened(pair[h]));
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256 both = _mm256_mul_ps(F::template scale<I>(block, h, g), x_scale);
      to.sum[h] = _mm256_add_ps(to.sum[h], _mm256_mul_ps(_mm256_cvtepi32_ps(total[h]), both));
    }
  }
  if constexpr (F::kOffsets)
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m256 offset = F::template offset<I>(block, h);
      to.rest[h] = _mm256_add_ps(to.rest[h], _mm256_mul_ps(offset, _mm256_set1_ps(x.sums(row)[b])));
    }
}

// One row of x with interleaved rows: codes stay in registers.
template <class F, bool kFetch>
TARGET void multiply_row(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept {
  Running to;
  for (int h = 0; h < 2; ++h) to.sum[h] = _mm256_loadu_ps(sums + 8 * h), to.rest[h] = _mm256_loadu_ps(rests + 8 * h);
  const auto part = [&]<int I>(const std::byte* block, int64_t b) LAMBDA {
    constexpr int64_t kBytes = F::kBytes * kDotRows, kLine = 64;
    constexpr int64_t kFirst = (I * kBytes / F::kParts + kLine - 1) / kLine * kLine;
#pragma GCC unroll 8
    for (int64_t at = kFirst; kFetch && at < (I + 1) * kBytes / F::kParts; at += kLine)
      __builtin_prefetch(block + kAhead + at);
    step<F, I>(block, piece.x, piece.row, piece.first / 32 + F::kParts * b + I, to);
  };
  const auto parts = [&]<int... I>(std::integer_sequence<int, I...>, int64_t b) LAMBDA {
    (part.template operator()<I>(group + b * F::kBytes * kDotRows, b), ...);
  };
  for (int64_t b = 0; b < piece.count / 32 / F::kParts; ++b) parts(std::make_integer_sequence<int, F::kParts>{}, b);
  for (int h = 0; h < 2; ++h) _mm256_storeu_ps(sums + 8 * h, to.sum[h]), _mm256_storeu_ps(rests + 8 * h, to.rest[h]);
}

template <class F>
constexpr MultiplyOneInt8 kOne[] = {multiply_row<F, false>, multiply_row<F, true>};

// By Int8Kind.
constexpr const MultiplyOneInt8* kOnes[] = {kOne<Q4<1>>, kOne<Q4<2>>,       kOne<Q5<1>>,      kOne<Q5<2>>,
                                            kOne<Q8_0>,  kOne<Q45K<false>>, kOne<Q45K<true>>, kOne<Q6_K>};

}  // namespace

MultiplyOneInt8 multiply_one_avx2(Int8Kind kind) noexcept { return kOnes[static_cast<int>(kind)][fetches_ahead()]; }

void multiply_panel_avx2(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept {
  const auto kernel = format.offsets       ? (format.bits == 4 ? multiply<32, true, 4> : multiply<32, true, 5>)
                      : format.bits == 4   ? multiply<32, false, 4>
                      : format.bits == 5   ? multiply<32, false, 5>
                      : format.group == 32 ? multiply<32, false, 8>
                                           : multiply<16, false, 6>;
  kernel(panel, piece, m, sums, rests);
}

}  // namespace thimble
