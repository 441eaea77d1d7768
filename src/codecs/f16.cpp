// f16: IEEE 754 half precision (5 bits of exponent, 10 of mantissa), round to nearest even; above 65504 infinite.
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "core/half.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace thimble {
namespace {

#if defined(__aarch64__)

// Every AArch64 CPU converts by one instruction, which the compiler knows.
void decode(const std::byte* from, float* to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) to[i] = load_f16(from + 2 * i);
}

void encode(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) store_f16(from[i], to + 2 * i);
}

#else

void decode_plain(const std::byte* from, float* to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * i, 2);
    to[i] = f16_to_f32(bits);
  }
}

void encode_plain(const float* from, std::byte* to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = f32_to_f16(from[i]);
    std::memcpy(to + 2 * i, &bits, 2);
  }
}

#if defined(__x86_64__)

// The compiler does not vectorise these conversions by itself, so they are written out: 8 at a time with F16C.
[[gnu::target("arch=x86-64-v3")]] void decode_f16c(const std::byte* from, float* to, int64_t count) noexcept {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 2 * i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(halves));
  }
  decode_plain(from + 2 * i, to + i, count - i);
}

[[gnu::target("arch=x86-64-v3")]] void encode_f16c(const float* from, std::byte* to, int64_t count) noexcept {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 2 * i), halves);
  }
  encode_plain(from + i, to + 2 * i, count - i);
}

void decode(const std::byte* from, float* to, int64_t count) noexcept {
  isa_has(Isa::avx2) ? decode_f16c(from, to, count) : decode_plain(from, to, count);
}

void encode(const float* from, std::byte* to, int64_t count) noexcept {
  isa_has(Isa::avx2) ? encode_f16c(from, to, count) : encode_plain(from, to, count);
}

#else

constexpr auto* decode = decode_plain;
constexpr auto* encode = encode_plain;

#endif
#endif

}  // namespace

const Codec kF16 = {
    .name = "f16",
    .description = "IEEE 754 half precision",
    .block = 1,
    .block_bytes = 2,
    .gguf_type = 1,
    .safetensors = "F16",
    .max_error = 0x1p-11,
    .decode = decode,
    .encode = encode,
};

}  // namespace thimble
