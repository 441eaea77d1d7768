// f32: IEEE 754 single precision, little-endian.
#include <cstring>

#include "codecs/codec.h"

namespace thimble {

const Codec kF32 = {
    .name = "f32",
    .description = "IEEE 754 single precision",
    .block = 1,
    .block_bytes = 4,
    .gguf_type = 0,
    .safetensors = "F32",
    .max_error = 0,
    .decode = [](const std::byte* from, float* to, int64_t count) noexcept { std::memcpy(to, from, count * 4); },
    .encode = [](const float* from, std::byte* to, int64_t count) noexcept { std::memcpy(to, from, count * 4); },
};

}  // namespace thimble
