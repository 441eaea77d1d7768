// int8 products with the matrix products of Armv8.6 (smmla): two rows of eight bytes times two others. A row of x that
// is left over, or the only one, goes by dot products.
#include <arm_neon.h>

#include <utility>

#include "kernels/dot/int8_panel.h"

#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")

#include "kernels/dot/int8_neon.h"

namespace thimble {
namespace {

// 2 P rows of x, from `row` on, with a panel. total[p][i]: rows 2 p, 2 p + 1 of x times rows 2 i, 2 i + 1 of the
// weight.
template <int P, int G, bool kOffsets, int kBits>
void multiply_pairs(const Int8Panel& panel, const Int8Piece& piece, int64_t row, float* sums, float* rests) noexcept {
  for (int64_t g = 0; g < piece.count / G; ++g) {
    int32x4_t total[P][8];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      const auto first = [&](int r) {
        return vdup_n_s32(first_sum(kBits, piece.x.corrections(row + 2 * p + r)[piece.first / G + g]));
      };
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) total[p][i] = vcombine_s32(first(0), first(1));
    }
#pragma GCC unroll 4
    for (int q = 0; q < G / 4; q += 2) {
      int8x16_t x[P];
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const int8_t* const at = piece.x.codes(row + 2 * p) + piece.first + g * G + 4 * q;
        x[p] = vcombine_s8(vld1_s8(at), vld1_s8(at + Int8Rows::row_bytes(piece.x.n)));
      }
#pragma GCC unroll 4
      for (int h = 0; h < kQuarters; ++h) {
        const uint8_t(*const codes)[kDotRows][4] = panel.codes + g * (G / 4) + q;
        const int32x4_t even = vreinterpretq_s32_s8(numbers<kBits>(codes[0][4 * h]));
        const int32x4_t odd = vreinterpretq_s32_s8(numbers<kBits>(codes[1][4 * h]));
        const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(even, odd));
        const int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(even, odd));
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          total[p][2 * h] = vmmlaq_s32(total[p][2 * h], x[p], low);
          total[p][2 * h + 1] = vmmlaq_s32(total[p][2 * h + 1], x[p], high);
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
      for (int h = 0; h < kQuarters; ++h) {
        const int64x2_t low = vreinterpretq_s64_s32(total[p][2 * h]), high = vreinterpretq_s64_s32(total[p][2 * h + 1]);
        const int32x4_t of_row[] = {vreinterpretq_s32_s64(vzip1q_s64(low, high)),
                                    vreinterpretq_s32_s64(vzip2q_s64(low, high))};
#pragma GCC unroll 2
        for (int r = 0; r < 2; ++r)
          put_group<G, kOffsets>(panel, piece, row + 2 * p + r, g, h, of_row[r], sums + (2 * p + r) * kDotRows,
                                 rests + (2 * p + r) * kDotRows);
      }
  }
}

template <int G, bool kOffsets, int kBits>
void multiply(const Int8Panel& panel, const Int8Piece& piece, int64_t m, float* sums, float* rests) noexcept {
  int64_t r = 0;
  const auto go = [&](auto kernel, int64_t rows) {
    for (; r + rows <= m; r += rows) kernel(panel, piece, piece.row + r, sums + r * kDotRows, rests + r * kDotRows);
  };
  go(multiply_pairs<2, G, kOffsets, kBits>, 4);
  go(multiply_pairs<1, G, kOffsets, kBits>, 2);
}

}  // namespace

void multiply_panel_i8mm(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept {
  by_format(format,
            [&]<int G, bool kOffsets, int kBits>() { multiply<G, kOffsets, kBits>(panel, piece, m, sums, rests); });
  if (m % 2 == 0) return;
  const Int8Piece last{piece.x, piece.row + m - 1, piece.first, piece.count};
  multiply_panel_dotprod(format, panel, last, 1, sums + (m - 1) * kDotRows, rests + (m - 1) * kDotRows);
}

}  // namespace thimble

#pragma GCC pop_options
