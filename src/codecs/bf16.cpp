// bf16: the upper half of an f32 (8 bits of exponent, 7 of mantissa), round to nearest even.
#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "core/half.h"

namespace thimble {
namespace {

THIMBLE_BODY void decode_elements(const std::byte* from, float* __restrict to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    uint16_t bits;
    std::memcpy(&bits, from + 2 * i, 2);
    to[i] = bf16_to_f32(bits);
  }
}

THIMBLE_BODY void encode_elements(const float* from, std::byte* __restrict to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = f32_to_bf16(from[i]);
    std::memcpy(to + 2 * i, &bits, 2);
  }
}

}  // namespace

const Codec kBf16 = {
    .name = "bf16",
    .description = "bfloat16: the range of f32, 8 significant bits",
    .block = 1,
    .block_bytes = 2,
    .gguf_type = 30,
    .safetensors = "BF16",
    .max_error = 0x1p-8,
    .decode = dispatched<decode_elements>,
    .encode = dispatched<encode_elements>,
};

}  // namespace thimble
