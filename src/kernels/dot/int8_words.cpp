// Rows as columns of words, for panels of int8_panel.h.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's AVX-512 header warns of its own undefined operands
#include <immintrin.h>

#include "kernels/dot/int8_panel.h"

#define INLINE __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) inline
#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

namespace thimble {
namespace {

// Rows 0, 4, 8, 12 from a place that is `row` of four rows on.
INLINE __m512i four_rows(const std::byte* const* rows, int64_t at) noexcept {
  const auto load = [&](int i) __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"), always_inline)) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + at));
  };
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(load(0)), load(1), 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(load(2)), load(3), 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

}  // namespace

TARGET void words_of_rows_avx512(const Int8Source& source, int64_t bytes, uint32_t (*words)[kDotRows]) noexcept {
  const int64_t stride = source.stride;
  const std::byte* const rows[4] = {source.data, source.data + 4 * stride, source.data + 8 * stride,
                                    source.data + 12 * stride};
  for (int64_t from = 0; from < bytes; from += 16) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) prefetch_int8(source.next + 16 * from + 64 * i);
    const int64_t at = from + 16 <= bytes ? from : bytes - 16;  // the last ones overlap
    const __m512i a = four_rows(rows, at), b = four_rows(rows, at + stride);
    const __m512i c = four_rows(rows, at + 2 * stride), d = four_rows(rows, at + 3 * stride);
    const __m512i ab0 = _mm512_unpacklo_epi32(a, b), ab1 = _mm512_unpackhi_epi32(a, b);
    const __m512i cd0 = _mm512_unpacklo_epi32(c, d), cd1 = _mm512_unpackhi_epi32(c, d);
    uint32_t(*const to)[kDotRows] = words + at / 4;
    _mm512_store_si512(to[0], _mm512_unpacklo_epi64(ab0, cd0));
    _mm512_store_si512(to[1], _mm512_unpackhi_epi64(ab0, cd0));
    _mm512_store_si512(to[2], _mm512_unpacklo_epi64(ab1, cd1));
    _mm512_store_si512(to[3], _mm512_unpackhi_epi64(ab1, cd1));
  }
}

}  // namespace thimble
