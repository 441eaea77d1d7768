#include "kernels/dot/int8_dot.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/half.h"
#include "kernels/clones.h"
#include "kernels/cpu.h"

namespace thimble {
namespace {

float f16_at(const std::byte* at) noexcept {
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return f16_to_f32(bits);
}

// Layouts of GGUF: d (f16) | 16 bytes of nibbles;  d, m (f16) | 16 bytes of nibbles;  d (f16) | 32 int8.
// Element i < 16 is the low nibble of byte i, element 16 + i the high one.
struct Q4_0 {
  static constexpr int64_t kBytes = 18, kCodes = 2;
  static constexpr bool kNibbles = true;
  static float offset(const std::byte* block) noexcept { return -8 * f16_at(block); }
};
struct Q4_1 {
  static constexpr int64_t kBytes = 20, kCodes = 4;
  static constexpr bool kNibbles = true;
  static float offset(const std::byte* block) noexcept { return f16_at(block + 2); }
};
struct Q8_0 {
  static constexpr int64_t kBytes = 34, kCodes = 2;
  static constexpr bool kNibbles = false;
  static float offset(const std::byte*) noexcept { return 0; }
};

float fold8(const float* lanes) noexcept {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// Lane l of a block sums elements 4l .. 4l + 3, as the instructions do.
template <class F>
float reference(const std::byte* weights, const Int8Row& x, int64_t n) noexcept {
  float lanes[8] = {}, rest = 0;
  for (int64_t b = 0; b < n / kDotBlock; ++b) {
    const std::byte* const block = weights + b * F::kBytes;
    const float scale = f16_at(block) * x.scales[b];
    for (int l = 0; l < 8; ++l) {
      int32_t sum = 0;
      for (int i = 4 * l; i < 4 * l + 4; ++i) {
        const auto byte = static_cast<uint8_t>(block[F::kCodes + (F::kNibbles ? i % 16 : i)]);
        const int32_t code = F::kNibbles ? (i < 16 ? byte & 15 : byte >> 4) : static_cast<int8_t>(byte);
        sum += code * x.codes[b * kDotBlock + i];
      }
      lanes[l] += static_cast<float>(sum) * scale;
    }
    rest += F::offset(block) * x.sums[b];
  }
  return fold8(lanes) + rest;
}

#define TARGET_AVX2 __attribute__((target("avx2,f16c"), always_inline))
#define TARGET_VNNI __attribute__((target("avx2,f16c,avx512f,avx512vl,avx512vnni"), always_inline))

// 32 codes of a block as bytes: unsigned for nibbles, signed otherwise.
template <class F>
TARGET_AVX2 inline __m256i codes_of(const std::byte* block) noexcept {
  if constexpr (!F::kNibbles) return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + F::kCodes));
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + F::kCodes));
  const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(bytes), _mm_srli_epi16(bytes, 4), 1);
  return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

// Sums of four neighbouring products. Unsigned times signed; signed weights lend their sign to the activations.
template <class F>
TARGET_AVX2 inline __m256i products_avx2(__m256i weights, __m256i x) noexcept {
  if constexpr (!F::kNibbles) {
    x = _mm256_sign_epi8(x, weights);
    weights = _mm256_sign_epi8(weights, weights);
  }
  return _mm256_madd_epi16(_mm256_maddubs_epi16(weights, x), _mm256_set1_epi16(1));
}

template <class F>
TARGET_VNNI inline __m256i products_vnni(__m256i weights, __m256i x) noexcept {
  if constexpr (!F::kNibbles) {
    x = _mm256_sign_epi8(x, weights);
    weights = _mm256_sign_epi8(weights, weights);
  }
  return _mm256_dpbusd_epi32(_mm256_setzero_si256(), weights, x);
}

#define INT8_DOT(name, flags, products)                                                                       \
  template <class F>                                                                                          \
  __attribute__((target(flags))) float name(const std::byte* weights, const Int8Row& x, int64_t n) noexcept { \
    __m256 lanes = _mm256_setzero_ps();                                                                       \
    float rest = 0;                                                                                           \
    for (int64_t b = 0; b < n / kDotBlock; ++b) {                                                             \
      const std::byte* const block = weights + b * F::kBytes;                                                 \
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x.codes + b * kDotBlock));    \
      const __m256 sums = _mm256_cvtepi32_ps(products<F>(codes_of<F>(block), codes));                         \
      lanes = _mm256_add_ps(lanes, _mm256_mul_ps(sums, _mm256_set1_ps(half_at(block) * x.scales[b])));        \
      if constexpr (F::kNibbles) rest += offset_at<F>(block) * x.sums[b];                                     \
    }                                                                                                         \
    float folded[8];                                                                                          \
    _mm256_storeu_ps(folded, lanes);                                                                          \
    return fold8(folded) + rest;                                                                              \
  }

TARGET_AVX2 inline float half_at(const std::byte* at) noexcept {
  uint16_t bits;
  std::memcpy(&bits, at, 2);
  return _cvtsh_ss(bits);
}
template <class F>
TARGET_AVX2 inline float offset_at(const std::byte* block) noexcept {
  return F::kCodes == 2 ? -8 * half_at(block) : half_at(block + 2);
}

INT8_DOT(dot_avx2, "avx2,f16c", products_avx2)
INT8_DOT(dot_vnni, "avx2,f16c,avx512f,avx512vl,avx512vnni", products_vnni)
#undef INT8_DOT

template <class F>
Int8Dot best() {
  return cpu().avx512_vnni ? dot_vnni<F> : cpu().avx2 ? dot_avx2<F> : reference<F>;
}

}  // namespace

CLONES void quantise_int8(const float* x, int64_t n, const Int8Row& to) noexcept {
  for (int64_t b = 0; b < n / kDotBlock; ++b) {
    const float* const from = x + b * kDotBlock;
    int8_t* const codes = to.codes + b * kDotBlock;
    float largest = 0;
    for (int i = 0; i < kDotBlock; ++i) largest = std::max(largest, std::fabs(from[i]));
    const float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
    int32_t sum = 0;
    for (int i = 0; i < kDotBlock; ++i) {
      // Adding and taking away 1.5 * 2^23 rounds to nearest even.
      const float rounded = (from[i] * inverse + 12582912.0f) - 12582912.0f;
      codes[i] = static_cast<int8_t>(rounded);
      sum += codes[i];
    }
    to.scales[b] = scale;
    to.sums[b] = scale * static_cast<float>(sum);
  }
}

Int8Dot int8_dot(const Codec& codec) {
  if (codec.name == "q4_0") return best<Q4_0>();
  if (codec.name == "q4_1") return best<Q4_1>();
  if (codec.name == "q8_0") return best<Q8_0>();
  return nullptr;
}

Int8Dot int8_dot_reference(const Codec& codec) {
  if (codec.name == "q4_0") return reference<Q4_0>;
  if (codec.name == "q4_1") return reference<Q4_1>;
  if (codec.name == "q8_0") return reference<Q8_0>;
  return nullptr;
}

}  // namespace thimble
