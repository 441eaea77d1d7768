// int8 products with what every AArch64 CPU has: products of bytes added in 16 bits (smlal), as many as these hold.
#include "kernels/dot/int8_neon.h"

namespace thimble {
namespace {

// Lanes 2 i and 2 i + 1 of `low` and `high` are of one row of the quarter.
template <int kBits>
class Widening {
 public:
  static constexpr int kRows = 2;  // of x at once: two registers each and quarter

  template <int kQuad>
  [[gnu::always_inline]] void add(int8x16_t codes, int8x16_t x) noexcept {
    const int8x16_t quad = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(x), kQuad % 4));
    if constexpr (kQuad % kTogether == 0) {
      if constexpr (kQuad > 0) total_ = vaddq_s32(total_, widened());
      low_ = vmull_s8(vget_low_s8(codes), vget_low_s8(quad)), high_ = vmull_high_s8(codes, quad);
    } else {
      low_ = vmlal_s8(low_, vget_low_s8(codes), vget_low_s8(quad)), high_ = vmlal_high_s8(high_, codes, quad);
    }
  }
  [[gnu::always_inline]] int32x4_t total() const noexcept { return vaddq_s32(total_, widened()); }

 private:
  // How many products with an activation's code, of magnitude up to 127, may be added in 16 bits: those of codes up to
  // 15 or 31 (8 * 31 * 127 = 31496), of codes up to 63 (4 * 63 * 127), of numbers from -128 on (2 * 128 * 127).
  static constexpr int kTogether = kBits < 6 ? 8 : kBits == 6 ? 4 : 2;

  [[gnu::always_inline]] int32x4_t widened() const noexcept {
    return vpaddq_s32(vpaddlq_s16(low_), vpaddlq_s16(high_));
  }

  int16x8_t low_, high_;
  int32x4_t total_ = vdupq_n_s32(0);
};

}  // namespace

MultiplyOneInt8 multiply_one_neon(Int8Kind kind) noexcept { return kOnes<Widening>[static_cast<int>(kind)]; }

void multiply_panel_neon(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept {
  by_format(format, [&]<int G, bool kOffsets, int kBits>() {
    multiply_rows_from<Widening, G, kOffsets, kBits>(0, panel, piece, m, sums, rests);
  });
}

}  // namespace thimble
