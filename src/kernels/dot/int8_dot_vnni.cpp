#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's AVX-512 header warns of its own undefined operands
#include <immintrin.h>

#include <cstring>
#include <utility>

#include "kernels/cpu.h"
#include "kernels/dot/int8_formats.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

#define TARGET_INLINE __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"), always_inline))

namespace thimble {
namespace {

// M rows of x at once: a panel's codes are read into registers once for all of them.
template <int M, int G, bool kOffsets>
TARGET void multiply(const Int8Panel& panel, const Int8Piece& piece, int64_t row, float* sums, float* rests) noexcept {
  constexpr int kQuads = G / 4;
  const int8_t* codes[M];
  const float* scales[M];
  __m512 sum[M], rest[M];
  for (int r = 0; r < M; ++r) {
    codes[r] = piece.x.codes(row + r) + piece.first;
    scales[r] = piece.x.scales(row + r) + piece.first / kDotBlock;
    sum[r] = _mm512_loadu_ps(sums + r * kDotRows);
    rest[r] = _mm512_loadu_ps(rests + r * kDotRows);
  }
  // Both lie behind the scales of a row, at the same distance.
  const int64_t to_sums = piece.x.sums(0) - piece.x.scales(0);
  const int64_t to_corrections = 2 * to_sums + piece.first / G - piece.first / kDotBlock;
  for (int64_t g = 0; g < piece.count / G; ++g) {
    __m512i quads[kQuads];
    for (int q = 0; q < kQuads; ++q) quads[q] = _mm512_load_si512(panel.codes[g * kQuads + q]);
    const __m512 scale = _mm512_load_ps(panel.scales[g]);
#pragma GCC unroll 8
    for (int r = 0; r < M; ++r) {
      int32_t quad;
      std::memcpy(&quad, scales[r] + to_corrections + g, 4);
      __m512i total = _mm512_set1_epi32(quad);
#pragma GCC unroll 8
      for (int q = 0; q < kQuads; ++q) {
        std::memcpy(&quad, codes[r] + g * G + 4 * q, 4);
        total = _mm512_dpbusd_epi32(total, quads[q], _mm512_set1_epi32(quad));
      }
      const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(scales[r][g * G / kDotBlock]));
      sum[r] = _mm512_add_ps(sum[r], _mm512_mul_ps(_mm512_cvtepi32_ps(total), both));
      if constexpr (kOffsets)
        rest[r] = _mm512_add_ps(
            rest[r], _mm512_mul_ps(_mm512_load_ps(panel.offsets[g]), _mm512_set1_ps(scales[r][to_sums + g])));
    }
  }
  for (int r = 0; r < M; ++r) {
    _mm512_storeu_ps(sums + r * kDotRows, sum[r]);
    _mm512_storeu_ps(rests + r * kDotRows, rest[r]);
  }
}

template <int G, bool kOffsets>
void multiply_rows(const Int8Panel& panel, const Int8Piece& piece, int64_t m, float* sums, float* rests) noexcept {
  int64_t r = 0;
  const auto go = [&](auto kernel, int64_t rows) {
    for (; r + rows <= m; r += rows) kernel(panel, piece, piece.row + r, sums + r * kDotRows, rests + r * kDotRows);
  };
  go(multiply<8, G, kOffsets>, 8);
  go(multiply<4, G, kOffsets>, 4);
  go(multiply<2, G, kOffsets>, 2);
  go(multiply<1, G, kOffsets>, 1);
}

constexpr int64_t kAhead = 6144;  // bytes that are fetched before they are read, where that helps (cpu.h)

// The same for one row of x, codes staying in registers.
template <class F, int G, bool kOffsets, bool kFetch>
TARGET void multiply_row(const std::byte* group, const Int8Piece& piece, float* sums, float* rests) noexcept {
  const int8_t* const codes = piece.x.codes(piece.row) + piece.first;
  const float* const scales = piece.x.scales(piece.row) + piece.first / kDotBlock;
  const float* const row_sums = piece.x.sums(piece.row) + piece.first / kDotBlock;
  const int32_t* const corrections = piece.x.corrections(piece.row) + piece.first / G;
  __m512 sum = _mm512_loadu_ps(sums), rest = _mm512_loadu_ps(rests);
  const auto lanes = [](const LaneHalves& halves) TARGET_INLINE {
    const __m512 numbers = _mm512_cvtph_ps(__builtin_bit_cast(__m256i, halves));
    return __builtin_bit_cast(Lanes, numbers);
  };
  const auto step = [&]<int I>(const std::byte* source, int64_t b) TARGET_INLINE {
    Int8Block block;
    F::template read<I>(source, block);
    const Lanes number = lanes(block.scale);
    constexpr int kGroups = 32 / G, kQuads = G / 4;
    const __m512 x_scale = _mm512_set1_ps(scales[b]);
#pragma GCC unroll 2
    for (int g = 0; g < kGroups; ++g) {
      __m512i total = _mm512_set1_epi32(corrections[b * kGroups + g]);
#pragma GCC unroll 8
      for (int q = 0; q < kQuads; ++q) {
        int32_t quad;
        std::memcpy(&quad, codes + 32 * b + G * g + 4 * q, 4);
        total = _mm512_dpbusd_epi32(total, __builtin_bit_cast(__m512i, block.quads[g * kQuads + q]),
                                    _mm512_set1_epi32(quad));
      }
      const Lanes scale = F::scale(number, block, g);
      const __m512 both = _mm512_mul_ps(__builtin_bit_cast(__m512, scale), x_scale);
      sum = _mm512_add_ps(sum, _mm512_mul_ps(_mm512_cvtepi32_ps(total), both));
    }
    if constexpr (kOffsets) {
      const Lanes offset = F::offset(lanes(block.offset), block);
      rest = _mm512_add_ps(rest, _mm512_mul_ps(__builtin_bit_cast(__m512, offset), _mm512_set1_ps(row_sums[b])));
    }
  };
  // Part I of a block, and as many bytes fetched.
  const auto part = [&]<int I>(const std::byte* block, int64_t b) TARGET_INLINE {
    constexpr int64_t kBytes = F::kBytes * kDotRows, kLine = 64;
    constexpr int64_t kFirst = (I * kBytes / F::kParts + kLine - 1) / kLine * kLine;
#pragma GCC unroll 8
    for (int64_t at = kFirst; kFetch && at < (I + 1) * kBytes / F::kParts; at += kLine)
      __builtin_prefetch(block + kAhead + at);
    step.template operator()<I>(block, F::kParts * b + I);
  };
  const auto parts = [&]<int... I>(std::integer_sequence<int, I...>, int64_t b) TARGET_INLINE {
    (part.template operator()<I>(group + b * F::kBytes * kDotRows, b), ...);
  };
  for (int64_t b = 0; b < piece.count / 32 / F::kParts; ++b) parts(std::make_integer_sequence<int, F::kParts>{}, b);
  _mm512_storeu_ps(sums, sum);
  _mm512_storeu_ps(rests, rest);
}

template <class F, int G, bool kOffsets>
constexpr MultiplyOneInt8 kOne[] = {multiply_row<F, G, kOffsets, false>, multiply_row<F, G, kOffsets, true>};

// By Int8Kind.
constexpr const MultiplyOneInt8* kOnes[] = {kOne<Int8Q4<false>, 32, false>, kOne<Int8Q4<true>, 32, true>,
                                            kOne<Int8Q5<false>, 32, false>, kOne<Int8Q5<true>, 32, true>,
                                            kOne<Int8Q8_0, 32, false>,      kOne<Int8Q45K<false>, 32, true>,
                                            kOne<Int8Q45K<true>, 32, true>, kOne<Int8Q6_K, 16, false>};

}  // namespace

MultiplyOneInt8 multiply_one_vnni(Int8Kind kind) noexcept { return kOnes[static_cast<int>(kind)][fetches_ahead()]; }

void multiply_panel_vnni(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept {
  const auto kernel = format.offsets       ? multiply_rows<32, true>
                      : format.group == 32 ? multiply_rows<32, false>
                                           : multiply_rows<16, false>;
  kernel(panel, piece, m, sums, rests);
}

}  // namespace thimble
