// Dot products of rows of quantised weights with int8 activations, for inference (`--multiply int8`).
//
// Activations are cut into blocks of 32: code = round(x / scale), scale = max|x| / 127. Products of codes are summed in
// int32, exactly; each block then contributes code sum * weight scale * activation scale in f32, in 8 lanes, in order.
// Every instruction set gives the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codecs/codec.h"

namespace thimble {

constexpr int64_t kDotBlock = 32;

// One row of n elements, n a multiple of 32.
struct Int8Row {
  int8_t* codes;  // [n]
  float* scales;  // [n / 32]
  float* sums;    // [n / 32]: scale times the sum of the block's codes
};

void quantise_int8(const float* x, int64_t n, const Int8Row& to) noexcept;

using Int8Dot = float (*)(const std::byte* weights, const Int8Row& x, int64_t n) noexcept;

// For q4_0, q4_1 and q8_0; nullptr where a codec has none.
Int8Dot int8_dot(const Codec& codec);
// The scalar reference of the same.
Int8Dot int8_dot_reference(const Codec& codec);

}  // namespace thimble
