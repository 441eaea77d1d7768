// int8 products with AVX-VNNI: four products of an unsigned and a signed byte are added to a lane of 32 bits (vpdpbusd
// in its VEX encoding, for CPUs without AVX-512).
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cpu.h"
#include "kernels/dot/int8_panel.h"

#pragma GCC push_options
#pragma GCC target("avx2,f16c,avxvnni")

#include "kernels/dot/int8_256.h"

namespace thimble {
namespace {

template <int, int>
class QuadProducts {
 public:
  [[gnu::always_inline]] void begin(int32_t correction) noexcept { total_ = _mm256_set1_epi32(correction); }
  template <int>
  [[gnu::always_inline]] void add(__m256i codes, __m256i x) noexcept {
    total_ = _mm256_dpbusd_avx_epi32(total_, codes, x);
  }
  [[gnu::always_inline]] __m256i total() const noexcept { return total_; }

 private:
  __m256i total_;
};

}  // namespace

MultiplyOneInt8 multiply_one_avx_vnni(Int8Kind kind) noexcept {
  return kOnes<QuadProducts>[static_cast<int>(kind)][fetches_ahead()];
}

void multiply_panel_avx_vnni(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                             float* sums, float* rests) noexcept {
  multiply_panel<QuadProducts>(format, panel, piece, m, sums, rests);
}

}  // namespace thimble

#pragma GCC pop_options
