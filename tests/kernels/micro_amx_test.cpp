// Products of AMX tiles are those of Intel's pseudocode, to the bit: rows and depths that fill no tile, C begun and
// added to.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "core/half.h"
#include "core/random.h"
#include "kernels/micro.h"

namespace thimble {
namespace {

constexpr int64_t kGroup = 16;  // pairs of k that one instruction takes

float normal_or_zero(float value) { return std::isnormal(value) ? value : std::copysign(0.0f, value); }

// TDPBF16PS of one element: a [16, 2], b [16, 2].
float tile_product(float c, const uint16_t* a, const uint16_t* b) {
  float sums[2] = {};
  for (int64_t step = 0; step < kGroup; ++step)
    for (int64_t i = 0; i < 2; ++i)
      sums[i] = normal_or_zero(std::fma(normal_or_zero(bf16_to_f32(a[2 * step + i])),
                                        normal_or_zero(bf16_to_f32(b[2 * step + i])), sums[i]));
  return normal_or_zero(normal_or_zero(c) + normal_or_zero(sums[0] + sums[1]));
}

TEST(MicroAmx, equals_the_pseudocode) {
  const MicroKernel* const micro = micro_amx();
  if (!micro) GTEST_SKIP() << "not on this instruction set level";
  const Random random(7, 0, 0);
  uint64_t drawn = 0;
  // Some numbers below the normal range of f32, some products too.
  const auto draw = [&] {
    const float scale = drawn % 97 == 0 ? 1e-39f : drawn % 31 == 0 ? 1e-20f : 1.0f;
    return f32_to_bf16(random.normal(drawn++) * scale);
  };
  for (const int rows : {1, 15, 16, 17, 31, 32})
    for (const int vectors : {1, 2})
      for (const int64_t steps : {int64_t{0}, int64_t{1}, kGroup, kGroup + 3, 5 * kGroup})
        for (const bool fresh : {true, false}) {
          const int64_t columns = micro->columns, stride = 2 * steps + 6, groups = (steps + kGroup - 1) / kGroup;
          std::vector<uint16_t> a(static_cast<size_t>(rows * stride)),
              panel(static_cast<size_t>(steps * columns * 2) + 1);
          for (uint16_t& x : a) x = draw();
          for (uint16_t& x : panel) x = draw();
          const int64_t c_stride = columns + 5;
          std::vector<float> c(static_cast<size_t>(rows * c_stride));
          for (size_t i = 0; i < c.size(); ++i) c[i] = random.normal(drawn++);
          const std::vector<float> before = c;
          micro->run(a.data(), stride, 2, panel.data(), steps, rows, vectors, c.data(), c_stride, fresh);
          for (int64_t r = 0; r < rows; ++r)
            for (int64_t j = 0; j < c_stride; ++j) {
              const size_t at = static_cast<size_t>(r * c_stride + j);
              float expected = before[at];
              if (j < vectors * micro->lanes) {
                if (fresh) expected = 0;
                for (int64_t g = 0; g < groups; ++g) {
                  uint16_t x[2 * kGroup] = {}, y[2 * kGroup] = {};
                  for (int64_t s = g * kGroup; s < std::min(steps, (g + 1) * kGroup); ++s)
                    for (int64_t i = 0; i < 2; ++i) {
                      x[2 * (s - g * kGroup) + i] = a[static_cast<size_t>(r * stride + 2 * s + i)];
                      y[2 * (s - g * kGroup) + i] = panel[static_cast<size_t>((s * columns + j) * 2 + i)];
                    }
                  expected = tile_product(expected, x, y);
                }
              }
              ASSERT_EQ(std::bit_cast<uint32_t>(c[at]), std::bit_cast<uint32_t>(expected))
                  << rows << " rows, " << vectors << " vectors, " << steps << " steps at " << r << ", " << j << ": "
                  << c[at] << " and " << expected;
            }
        }
}

}  // namespace
}  // namespace thimble
