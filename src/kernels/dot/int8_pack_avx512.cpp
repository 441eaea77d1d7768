// Panels of int8_panel.h: 16 bytes of 16 rows at a time are transposed in registers. Layouts as in the codecs' files.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's AVX-512 header warns of its own undefined operands
#include <immintrin.h>

#include <cstring>

#include "kernels/dot/int8_panel.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,f16c")))
#define INLINE __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,f16c"), always_inline)) inline

namespace thimble {
namespace {

// Lane r of register j: bytes 4 j .. 4 j + 3 of row r.
struct Quads {
  __m512i of[4];
};

INLINE __m512i four_rows(const std::byte* at, int64_t stride) noexcept {
  const auto row = [&](int i) __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,f16c"), always_inline)) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + i * stride));
  };
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(row(0)), row(4), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(row(8)), row(12), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

INLINE Quads transpose(const std::byte* at, int64_t stride) noexcept {
  const __m512i a = four_rows(at, stride), b = four_rows(at + stride, stride);
  const __m512i c = four_rows(at + 2 * stride, stride), d = four_rows(at + 3 * stride, stride);
  const __m512i ab0 = _mm512_unpacklo_epi32(a, b), ab1 = _mm512_unpackhi_epi32(a, b);
  const __m512i cd0 = _mm512_unpacklo_epi32(c, d), cd1 = _mm512_unpackhi_epi32(c, d);
  return {{_mm512_unpacklo_epi64(ab0, cd0), _mm512_unpackhi_epi64(ab0, cd0), _mm512_unpacklo_epi64(ab1, cd1),
           _mm512_unpackhi_epi64(ab1, cd1)}};
}

INLINE int16_t half_at(const std::byte* at) noexcept {
  int16_t half;
  std::memcpy(&half, at, 2);
  return half;
}
INLINE int32_t word_at(const std::byte* at) noexcept {
  int32_t word;
  std::memcpy(&word, at, 4);
  return word;
}

// An f16 of each row.
INLINE __m512 halves(const std::byte* at, int64_t s) noexcept {
  return _mm512_cvtph_ps(_mm256_setr_epi16(
      half_at(at), half_at(at + s), half_at(at + 2 * s), half_at(at + 3 * s), half_at(at + 4 * s), half_at(at + 5 * s),
      half_at(at + 6 * s), half_at(at + 7 * s), half_at(at + 8 * s), half_at(at + 9 * s), half_at(at + 10 * s),
      half_at(at + 11 * s), half_at(at + 12 * s), half_at(at + 13 * s), half_at(at + 14 * s), half_at(at + 15 * s)));
}
// Four bytes of each row.
INLINE __m512i words(const std::byte* at, int64_t s) noexcept {
  return _mm512_setr_epi32(word_at(at), word_at(at + s), word_at(at + 2 * s), word_at(at + 3 * s), word_at(at + 4 * s),
                           word_at(at + 5 * s), word_at(at + 6 * s), word_at(at + 7 * s), word_at(at + 8 * s),
                           word_at(at + 9 * s), word_at(at + 10 * s), word_at(at + 11 * s), word_at(at + 12 * s),
                           word_at(at + 13 * s), word_at(at + 14 * s), word_at(at + 15 * s));
}
// The two f16 of a word.
INLINE __m512 low_half(__m512i words) noexcept { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }
INLINE __m512 high_half(__m512i words) noexcept {
  return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(words, 16)));
}

INLINE __m512i low_nibbles(__m512i bytes) noexcept { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
INLINE __m512i high_nibbles(__m512i bytes) noexcept { return low_nibbles(_mm512_srli_epi16(bytes, 4)); }

INLINE void put(Int8Panel& panel, int64_t quad, __m512i codes) noexcept {
  _mm512_store_si512(panel.codes[quad], codes);
}
INLINE void put_nibbles(Int8Panel& panel, int64_t block, const Quads& quads) noexcept {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    put(panel, 8 * block + i, low_nibbles(quads.of[i]));
    put(panel, 8 * block + 4 + i, high_nibbles(quads.of[i]));
  }
}

// The next panel's bytes are wanted when this one is done.
INLINE void prefetch_next(const std::byte* weights, int64_t stride, int64_t bytes) noexcept {
  for (int64_t row = 0; row < kDotRows; ++row)
    for (int64_t at = 0; at < bytes; at += 64)
      _mm_prefetch(reinterpret_cast<const char*>(weights + (row + kDotRows) * stride + at), _MM_HINT_T0);
}

// Scale and minimum of the eight groups of q4_K and q5_K: six bits each, packed as in k_fit.h.
struct Minimums {
  __m512 d, dmin;
  __m512i scales[2], minimums[2];  // a byte a group
};
INLINE Minimums minimums_of(const std::byte* block, int64_t stride) noexcept {
  const Quads head = transpose(block, stride);
  const __m512i six = _mm512_set1_epi8(0x3f), four = _mm512_set1_epi8(0x0f), two = _mm512_set1_epi8(0x30);
  const auto& w = head.of;
  return {low_half(w[0]),
          high_half(w[0]),
          {_mm512_and_si512(w[1], six),
           _mm512_or_si512(_mm512_and_si512(w[3], four), _mm512_and_si512(_mm512_srli_epi16(w[1], 2), two))},
          {_mm512_and_si512(w[2], six), _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(w[3], 4), four),
                                                        _mm512_and_si512(_mm512_srli_epi16(w[2], 2), two))}};
}
INLINE void put_minimums(Int8Panel& panel, int64_t first_group, const Minimums& m) noexcept {
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) {
    const auto number = [&](__m512i bytes)
        __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,f16c"), always_inline)) {
      return _mm512_cvtepi32_ps(
          _mm512_and_si512(_mm512_srli_epi32(bytes, static_cast<unsigned>(8 * (g % 4))), _mm512_set1_epi32(255)));
    };
    _mm512_store_ps(panel.scales[first_group + g], _mm512_mul_ps(m.d, number(m.scales[g / 4])));
    const __m512 offset = _mm512_mul_ps(m.dmin, number(m.minimums[g / 4]));
    _mm512_store_ps(panel.offsets[first_group + g], _mm512_xor_ps(offset, _mm512_set1_ps(-0.0f)));
  }
}

}  // namespace

TARGET void pack_q4_0_avx512(const std::byte* weights, int64_t stride, int64_t count, Int8Panel& panel) noexcept {
  prefetch_next(weights, stride, count / 32 * 18);
  for (int64_t b = 0; b < count / 32; ++b) {
    const std::byte* const block = weights + b * 18;
    _mm512_store_ps(panel.scales[b], halves(block, stride));
    put_nibbles(panel, b, transpose(block + 2, stride));
  }
}

TARGET void pack_q4_1_avx512(const std::byte* weights, int64_t stride, int64_t count, Int8Panel& panel) noexcept {
  prefetch_next(weights, stride, count / 32 * 20);
  for (int64_t b = 0; b < count / 32; ++b) {
    const std::byte* const block = weights + b * 20;
    const __m512i head = words(block, stride);
    _mm512_store_ps(panel.scales[b], low_half(head));
    _mm512_store_ps(panel.offsets[b], high_half(head));
    put_nibbles(panel, b, transpose(block + 4, stride));
  }
}

TARGET void pack_q5_0_avx512(const std::byte* weights, int64_t stride, int64_t count, Int8Panel& panel) noexcept {
  prefetch_next(weights, stride, count / 32 * 22);
  for (int64_t b = 0; b < count / 32; ++b) {
    const std::byte* const block = weights + b * 22;
    _mm512_store_ps(panel.scales[b], halves(block, stride));
    const __m512i fifth = words(block + 2, stride);
    const Quads quads = transpose(block + 6, stride);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      // Bits 4 q .. 4 q + 3, a byte each.
      const __m512i bits =
          _mm512_and_si512(_mm512_srli_epi32(fifth, static_cast<unsigned>(4 * q)), _mm512_set1_epi32(15));
      const __m512i spread =
          _mm512_and_si512(_mm512_mullo_epi32(bits, _mm512_set1_epi32(0x00204081)), _mm512_set1_epi32(0x01010101));
      const __m512i low = q < 4 ? low_nibbles(quads.of[q]) : high_nibbles(quads.of[q - 4]);
      put(panel, 8 * b + q, _mm512_or_si512(low, _mm512_slli_epi32(spread, 4)));
    }
  }
}

TARGET void pack_q8_0_avx512(const std::byte* weights, int64_t stride, int64_t count, Int8Panel& panel) noexcept {
  prefetch_next(weights, stride, count / 32 * 34);
  const __m512i zero = _mm512_set1_epi8(-128);
  for (int64_t b = 0; b < count / 32; ++b) {
    const std::byte* const block = weights + b * 34;
    _mm512_store_ps(panel.scales[b], halves(block, stride));
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const Quads quads = transpose(block + 2 + 16 * half, stride);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) put(panel, 8 * b + 4 * half + i, _mm512_xor_si512(quads.of[i], zero));
    }
  }
}

TARGET void pack_q4_K_avx512(const std::byte* weights, int64_t stride, int64_t count, Int8Panel& panel) noexcept {
  prefetch_next(weights, stride, count / 256 * 144);
  for (int64_t b = 0; b < count / 256; ++b) {
    const std::byte* const block = weights + b * 144;
    put_minimums(panel, 8 * b, minimums_of(block, stride));
    for (int run = 0; run < 4; ++run)
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const Quads quads = transpose(block + 16 + 32 * run + 16 * half, stride);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const int64_t quad = 64 * b + 16 * run + 4 * half + i;
          put(panel, quad, low_nibbles(quads.of[i]));
          put(panel, quad + 8, high_nibbles(quads.of[i]));
        }
      }
  }
}

TARGET void pack_q5_K_avx512(const std::byte* weights, int64_t stride, int64_t count, Int8Panel& panel) noexcept {
  prefetch_next(weights, stride, count / 256 * 176);
  for (int64_t b = 0; b < count / 256; ++b) {
    const std::byte* const block = weights + b * 176;
    put_minimums(panel, 8 * b, minimums_of(block, stride));
    for (int half = 0; half < 2; ++half) {
      const Quads fifth = transpose(block + 16 + 16 * half, stride);
#pragma GCC unroll 4
      for (int run = 0; run < 4; ++run) {
        const Quads quads = transpose(block + 48 + 32 * run + 16 * half, stride);
        const auto with_fifth = [&](__m512i nibbles, int i, int group)
            __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,f16c"), always_inline)) {
          const __m512i bit = _mm512_and_si512(_mm512_srli_epi32(fifth.of[i], static_cast<unsigned>(group)),
                                               _mm512_set1_epi32(0x01010101));
          return _mm512_or_si512(nibbles, _mm512_slli_epi32(bit, 4));
        };
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const int64_t quad = 64 * b + 16 * run + 4 * half + i;
          put(panel, quad, with_fifth(low_nibbles(quads.of[i]), i, 2 * run));
          put(panel, quad + 8, with_fifth(high_nibbles(quads.of[i]), i, 2 * run + 1));
        }
      }
    }
  }
}

TARGET void pack_q6_K_avx512(const std::byte* weights, int64_t stride, int64_t count, Int8Panel& panel) noexcept {
  prefetch_next(weights, stride, count / 256 * 210);
  for (int64_t b = 0; b < count / 256; ++b) {
    const std::byte* const block = weights + b * 210;
    const Quads scales = transpose(block + 192, stride);
    const __m512 d = halves(block + 208, stride);
#pragma GCC unroll 16
    for (int g = 0; g < 16; ++g) {
      const __m512i number =
          _mm512_srai_epi32(_mm512_slli_epi32(scales.of[g / 4], static_cast<unsigned>(24 - 8 * (g % 4))), 24);
      _mm512_store_ps(panel.scales[16 * b + g], _mm512_mul_ps(d, _mm512_cvtepi32_ps(number)));
    }
    for (int part = 0; part < 4; ++part) {  // 16 bytes of each of three runs: four groups
      const int half = part / 2, at = part % 2 * 16;
      const Quads low[2] = {transpose(block + 64 * half + at, stride), transpose(block + 64 * half + 32 + at, stride)};
      const Quads high = transpose(block + 128 + 32 * half + at, stride);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k)
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const __m512i nibbles = k < 2 ? low_nibbles(low[k % 2].of[i]) : high_nibbles(low[k % 2].of[i]);
          const __m512i bits = _mm512_and_si512(_mm512_srli_epi32(high.of[i], static_cast<unsigned>(2 * k)),
                                                _mm512_set1_epi32(0x03030303));
          put(panel, 64 * b + 32 * half + 8 * k + at / 4 + i, _mm512_or_si512(nibbles, _mm512_slli_epi32(bits, 4)));
        }
    }
  }
}

}  // namespace thimble
