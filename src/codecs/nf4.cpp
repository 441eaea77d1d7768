// nf4: 4-bit NormalFloat, the quantiles of a normal distribution, as bitsandbytes has it.
//
//   Paper   Dettmers et al. 2023, "QLoRA", arXiv:2305.14314, section 3 and appendix E
//   Block   36 bytes   | a: f32 | q[32] |    q[i] = code of x[2i] << 4 | code of x[2i + 1]
//   Value   x[i] = a * level[code]
//   Encode  a = max|x|, code = the level nearest to x / a; on a tie the lower one
//   Error   half the widest gap between levels, that from -1 to -0.6962
//   Choice  the scale stays in f32 and lies beside its codes; nf4_double has scales in 8 bits
#include <algorithm>
#include <array>
#include <cmath>

#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/nf4_levels.h"

#if defined(__x86_64__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12's AVX-512 header warns of its own undefined operands
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace thimble {
namespace {

constexpr int kBlock = 64;
constexpr int kBytes = 36;

// `count` elements of one block, which may be its only ones.
void decode_part(const std::byte* from, float* to, int count) noexcept {
  float a;
  std::memcpy(&a, from, 4);
  for (int i = 0; i < count; ++i) {
    const int pair = std::to_integer<int>(from[4 + i / 2]);
    to[i] = kLevelsNf4[i % 2 == 0 ? pair >> 4 : pair & 15] * a;
  }
}

void decode_plain(const std::byte* from, float* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock)
    decode_part(from, to, static_cast<int>(std::min<int64_t>(kBlock, count - start)));
}

#if defined(__x86_64__)

// The 16 levels fit one AVX-512 register or two AVX ones, so that a look-up is a permutation.
// A byte p of two codes becomes the 16-bit word (p >> 4) | (p & 15) << 8: both codes as bytes, in order.

[[gnu::target("arch=x86-64-v4")]] void decode_v4(const std::byte* from, float* to, int64_t count) noexcept {
  const __m512 levels = _mm512_load_ps(kLevelsNf4.data());
  const __m512i low = _mm512_set1_epi16(15);
  for (; count >= kBlock; count -= kBlock, from += kBytes, to += kBlock) {
    float scale;
    std::memcpy(&scale, from, 4);
    const __m512 a = _mm512_set1_ps(scale);
    const __m512i pairs = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 4)));
    const __m512i codes =
        _mm512_or_si512(_mm512_srli_epi16(pairs, 4), _mm512_slli_epi16(_mm512_and_si512(pairs, low), 8));
    const __m128i quarters[4] = {_mm512_castsi512_si128(codes), _mm512_extracti32x4_epi32(codes, 1),
                                 _mm512_extracti32x4_epi32(codes, 2), _mm512_extracti32x4_epi32(codes, 3)};
    for (int i = 0; i < 4; ++i) {
      const __m512 level = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(quarters[i]), levels);
      _mm512_storeu_ps(to + 16 * i, _mm512_mul_ps(level, a));
    }
  }
  decode_plain(from, to, count);
}

[[gnu::target("arch=x86-64-v3")]] void decode_v3(const std::byte* from, float* to, int64_t count) noexcept {
  const __m256 below = _mm256_load_ps(kLevelsNf4.data());
  const __m256 above = _mm256_load_ps(kLevelsNf4.data() + 8);
  const __m256i low = _mm256_set1_epi16(15);
  for (; count >= kBlock; count -= kBlock, from += kBytes, to += kBlock) {
    float scale;
    std::memcpy(&scale, from, 4);
    const __m256 a = _mm256_set1_ps(scale);
    for (int half = 0; half < 2; ++half) {
      const __m256i pairs =
          _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 4 + 16 * half)));
      const __m256i codes =
          _mm256_or_si256(_mm256_srli_epi16(pairs, 4), _mm256_slli_epi16(_mm256_and_si256(pairs, low), 8));
      alignas(32) uint8_t bytes[32];
      _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), codes);
      for (int i = 0; i < 4; ++i) {
        const __m256i index = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + 8 * i)));
        // Bit 3 of the code, moved to the sign, chooses the upper eight levels.
        const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
        const __m256 level =
            _mm256_blendv_ps(_mm256_permutevar8x32_ps(below, index), _mm256_permutevar8x32_ps(above, index), upper);
        _mm256_storeu_ps(to + 32 * half + 8 * i, _mm256_mul_ps(level, a));
      }
    }
  }
  decode_plain(from, to, count);
}

void decode(const std::byte* from, float* to, int64_t count) noexcept {
  if (isa_has(Isa::avx512)) return decode_v4(from, to, count);
  if (isa_has(Isa::avx2)) return decode_v3(from, to, count);
  decode_plain(from, to, count);
}

#elif defined(__aarch64__)

// The 16 levels fill four registers, which one instruction looks bytes up in: those of a level are 4 code .. 4 code
// + 3.
void decode(const std::byte* from, float* to, int64_t count) noexcept {
  static constexpr uint8_t kByteOf[] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
  static constexpr uint8_t kCodeOf[] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  const uint8x16x4_t levels = vld1q_u8_x4(reinterpret_cast<const uint8_t*>(kLevelsNf4.data()));
  const uint8x16_t byte_of = vld1q_u8(kByteOf), code_of = vld1q_u8(kCodeOf);
  for (; count >= kBlock; count -= kBlock, from += kBytes, to += kBlock) {
    float scale;
    std::memcpy(&scale, from, 4);
    for (int half = 0; half < 2; ++half) {
      const uint8x16_t pairs = vld1q_u8(reinterpret_cast<const uint8_t*>(from + 4 + 16 * half));
      const uint8x16_t first = vshrq_n_u8(pairs, 4), second = vandq_u8(pairs, vdupq_n_u8(15));
      const uint8x16_t codes[] = {vzip1q_u8(first, second), vzip2q_u8(first, second)};
      for (int i = 0; i < 8; ++i) {
        const uint8x16_t four =
            vqtbl1q_u8(codes[i / 4], vaddq_u8(code_of, vdupq_n_u8(static_cast<uint8_t>(i % 4 * 4))));
        const uint8x16_t bytes = vqtbl4q_u8(levels, vaddq_u8(vshlq_n_u8(four, 2), byte_of));
        vst1q_f32(to + 32 * half + 4 * i, vmulq_n_f32(vreinterpretq_f32_u8(bytes), scale));
      }
    }
  }
  decode_plain(from, to, count);
}

#else

constexpr auto* decode = decode_plain;

#endif

// The code is the number of midpoints between levels that lie below x.
constexpr std::array<float, 15> kMidpoints = [] {
  std::array<float, 15> midpoints{};
  for (int i = 0; i < 15; ++i) midpoints[i] = (kLevelsNf4[i] + kLevelsNf4[i + 1]) / 2;
  return midpoints;
}();

THIMBLE_BODY void encode_blocks(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
    const int filled = static_cast<int>(std::min<int64_t>(kBlock, count - start));
    float x[kBlock] = {};
    std::memcpy(x, from, filled * sizeof(float));
    float a = 0;
    for (int i = 0; i < kBlock; ++i) a = std::abs(x[i]) > a ? std::abs(x[i]) : a;
    const float divisor = a > 0 ? a : 1;
    uint8_t codes[kBlock] = {};
    for (int i = 0; i < kBlock; ++i) {
      const float unit = x[i] / divisor;
      int code = 0;
      for (int j = 0; j < 15; ++j) code += unit > kMidpoints[j];
      codes[i] = static_cast<uint8_t>(code);
    }
    uint8_t q[kBlock / 2];
    for (int i = 0; i < kBlock / 2; ++i) q[i] = static_cast<uint8_t>(codes[2 * i] << 4 | codes[2 * i + 1]);
    std::memcpy(to, &a, 4);
    std::memcpy(to + 4, q, sizeof q);
  }
}

}  // namespace

const Codec kNf4 = {
    .name = "nf4",
    .description = "4-bit NormalFloat of QLoRA, blocks of 64 with an f32 scale",
    .block = kBlock,
    .block_bytes = kBytes,
    .max_error = 0.1519037,
    .decode = decode,
    .encode = dispatched<encode_blocks>,
};

}  // namespace thimble
