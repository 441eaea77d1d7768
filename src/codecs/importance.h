// Encoders that weigh the squared error of every element by its importance: the mean square of the input that the
// element is multiplied with, which GGUF's tools keep in an importance matrix.
//
//   Paper    none: the reference quantiser of GGUF (ggml-quants.c), bit for bit
//   Weights  importance * sqrt(variance + x^2), with the mean of x^2 over the row (q4_0 to q5_1) or twice that over the
//            super-block (q4_K, q5_K); q6_K takes the importance alone
#pragma once

#include <cstddef>
#include <cstdint>

#include "codecs/codec.h"

namespace thimble {

// A row of `count` elements, whole blocks.
using WeightedEncoder = void (*)(const float* row, const float* importance, std::byte* to, int64_t count) noexcept;

// nullptr where the codec has no fit that could be weighed.
WeightedEncoder weighted_encoder(const Codec& codec);

// In the files of their codecs.
void encode_weighted_q4_K(const float* row, const float* importance, std::byte* to, int64_t count) noexcept;
void encode_weighted_q5_K(const float* row, const float* importance, std::byte* to, int64_t count) noexcept;
void encode_weighted_q6_K(const float* row, const float* importance, std::byte* to, int64_t count) noexcept;

}  // namespace thimble
