#include <immintrin.h>

#include <cstring>

#include "kernels/dot/int8_panel.h"

#define TARGET __attribute__((target("avx2")))
#define INLINE __attribute__((target("avx2"), always_inline)) inline

namespace thimble {
namespace {

INLINE int32_t quad_at(const int8_t* at) noexcept {
  int32_t quad;
  std::memcpy(&quad, at, 4);
  return quad;
}

// Sums of four neighbouring products. Pairs are added in 16 bits, which holds 2 * 127 * 127: codes about zero lend
// their sign to the activations.
template <bool kSigned>
INLINE __m256i products(__m256i codes, __m256i x) noexcept {
  if constexpr (kSigned) {
    codes = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    x = _mm256_sign_epi8(x, codes);
    codes = _mm256_abs_epi8(codes);
  }
  return _mm256_madd_epi16(_mm256_maddubs_epi16(codes, x), _mm256_set1_epi16(1));
}

template <int G, bool kOffsets, bool kSigned>
TARGET void multiply(const Int8Panel& panel, const Int8Piece& piece, int64_t row, float* sums, float* rests) noexcept {
  const int8_t* const codes = piece.x.codes(row) + piece.first;
  const float* const scales = piece.x.scales(row) + piece.first / kDotBlock;
  const float* const row_sums = piece.x.sums(row) + piece.first / kDotBlock;
  const int32_t* const corrections = piece.x.corrections(row) + piece.first / G;
  for (int half = 0; half < kDotRows; half += 8) {
    __m256 sum = _mm256_loadu_ps(sums + half), rest = _mm256_loadu_ps(rests + half);
    for (int64_t g = 0; g < piece.count / G; ++g) {
      __m256i total = _mm256_set1_epi32(kSigned ? 0 : corrections[g]);
      for (int q = 0; q < G / 4; ++q) {
        const auto* const quads = reinterpret_cast<const __m256i*>(panel.codes[g * G / 4 + q][half]);
        total = _mm256_add_epi32(
            total, products<kSigned>(_mm256_load_si256(quads), _mm256_set1_epi32(quad_at(codes + g * G + 4 * q))));
      }
      const __m256 scale =
          _mm256_mul_ps(_mm256_load_ps(panel.scales[g] + half), _mm256_set1_ps(scales[g * G / kDotBlock]));
      sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_cvtepi32_ps(total), scale));
      if constexpr (kOffsets)
        rest = _mm256_add_ps(rest, _mm256_mul_ps(_mm256_load_ps(panel.offsets[g] + half), _mm256_set1_ps(row_sums[g])));
    }
    _mm256_storeu_ps(sums + half, sum);
    _mm256_storeu_ps(rests + half, rest);
  }
}

}  // namespace

void multiply_panel_avx2(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept {
  const auto kernel = format.offsets       ? multiply<32, true, false>
                      : format.zero == 128 ? multiply<32, false, true>
                      : format.group == 32 ? multiply<32, false, false>
                                           : multiply<16, false, false>;
  for (int64_t r = 0; r < m; ++r) kernel(panel, piece, piece.row + r, sums + r * kDotRows, rests + r * kDotRows);
}

}  // namespace thimble
