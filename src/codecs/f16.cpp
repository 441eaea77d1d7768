// f16: IEEE 754 half precision (5 bits of exponent, 10 of mantissa), round to nearest even; above 65504 infinite.
#include <cstring>

#include "codecs/codec.h"
#include "core/half.h"

namespace thimble {

const Codec kF16 = {
    .name = "f16",
    .description = "IEEE 754 half precision",
    .block = 1,
    .block_bytes = 2,
    .gguf_type = 1,
    .safetensors = "F16",
    .max_error = 0x1p-11,
    .decode =
        [](const std::byte* from, float* to, int64_t count) noexcept {
          for (int64_t i = 0; i < count; ++i) {
            uint16_t bits;
            std::memcpy(&bits, from + 2 * i, 2);
            to[i] = f16_to_f32(bits);
          }
        },
    .encode =
        [](const float* from, std::byte* to, int64_t count) noexcept {
          for (int64_t i = 0; i < count; ++i) {
            const uint16_t bits = f32_to_f16(from[i]);
            std::memcpy(to + 2 * i, &bits, 2);
          }
        },
};

}  // namespace thimble
