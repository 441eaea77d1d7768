// int8 products with AVX2: products of unsigned and signed bytes, added in pairs to 16 bits (vpmaddubsw).
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cpu.h"
#include "kernels/dot/int8_panel.h"

#pragma GCC push_options
#pragma GCC target("avx2,f16c")

#include "kernels/dot/int8_256.h"

namespace thimble {
namespace {

// How many pairs of products with an activation's code, of magnitude up to 127, may be added in 16 bits.
constexpr int together(int bits) { return bits == 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 1; }

template <int kBits, int kQuads>
class PairedProducts {
 public:
  // Bytes of eight bits are codes about 128, met as numbers: they take no correction for the zero.
  [[gnu::always_inline]] void begin(int32_t correction) noexcept {
    total_ = _mm256_set1_epi32(kBits < 8 ? correction : 0);
  }

  template <int kQuad>
  [[gnu::always_inline]] void add(__m256i codes, __m256i x) noexcept {
    constexpr int kTogether = std::min(kQuads, together(kBits));
    const __m256i products = pairs(codes, x);
    pair_ = kQuad % kTogether == 0 ? products : _mm256_add_epi16(pair_, products);
    // One after the other: GCC would add them as a tree, whose products wait for each other in memory.
    asm("" : "+x"(pair_));
    if constexpr (kQuad % kTogether == kTogether - 1)
      total_ = _mm256_add_epi32(total_, _mm256_madd_epi16(pair_, _mm256_set1_epi16(1)));
  }
  [[gnu::always_inline]] __m256i total() const noexcept { return total_; }

 private:
  // Numbers of eight bits lend their sign to the activations.
  [[gnu::always_inline]] static __m256i pairs(__m256i codes, __m256i x) noexcept {
    if constexpr (kBits < 8) return _mm256_maddubs_epi16(codes, x);
    const __m256i number = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    return _mm256_maddubs_epi16(_mm256_abs_epi8(number), _mm256_sign_epi8(x, number));
  }
  __m256i pair_, total_;
};

}  // namespace

MultiplyOneInt8 multiply_one_avx2(Int8Kind kind) noexcept {
  return kOnes<PairedProducts>[static_cast<int>(kind)][fetches_ahead()];
}

void multiply_panel_avx2(const Int8Format& format, const Int8Panel& panel, const Int8Piece& piece, int64_t m,
                         float* sums, float* rests) noexcept {
  multiply_panel<PairedProducts>(format, panel, piece, m, sums, rests);
}

}  // namespace thimble

#pragma GCC pop_options
