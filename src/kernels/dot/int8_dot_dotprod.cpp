// int8 products with the dot products of Armv8.2 (sdot): four products of bytes are added to a lane of 32 bits.
#include <arm_neon.h>

#include <utility>

#include "kernels/dot/int8_panel.h"

#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")

#include "kernels/dot/int8_neon.h"

namespace thimble {
namespace {

template <int>
class DotProducts {
 public:
  static constexpr int kRows = 4;  // of x at once

  template <int kQuad>
  [[gnu::always_inline]] void add(int8x16_t codes, int8x16_t x) noexcept {
    total_ = vdotq_laneq_s32(total_, codes, x, kQuad % 4);
  }
  [[gnu::always_inline]] int32x4_t total() const noexcept { return total_; }

 private:
  int32x4_t total_ = vdupq_n_s32(0);
};

}  // namespace

MultiplyOneInt8 multiply_one_dotprod(Int8Kind kind) noexcept { return kOnes<DotProducts>[static_cast<int>(kind)]; }

void multiply_panel_dotprod(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                            float* sums, float* rests) noexcept {
  by_format(format, [&]<int G, bool kOffsets, int kBits>() {
    multiply_rows_from<DotProducts, G, kOffsets, kBits>(0, panel, piece, m, sums, rests);
  });
}

}  // namespace thimble

#pragma GCC pop_options
