// Small vector loops that several kernels share, compiled for each instruction set and chosen at run time.
// Every version gives the same bits.
#pragma once

#include <cstdint>

namespace thimble {

void to_bf16(const float* from, uint16_t* to, int64_t count) noexcept;  // round to nearest even
void from_bf16(const uint16_t* from, float* to, int64_t count) noexcept;
void round_to_bf16(float* values, int64_t count) noexcept;  // and back to f32

// Of every 32 numbers, the 16 even ones and then the odd ones, as load_pair() of lanes.h takes bf16 apart. count: a
// multiple of 32; `to` may be `from`.
void take_apart(const float* from, float* to, int64_t count) noexcept;

// to[i] = low[i] in the lower, high[i] in the upper half, both rounded to bf16.
void interleave_bf16(const float* low, const float* high, uint32_t* to, int64_t count) noexcept;

}  // namespace thimble
