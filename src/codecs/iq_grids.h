// The grids of GGUF's iq2 and iq3 formats: the rows of values that a code stands for, eight of two bits each or four of
// four bits (the first value in the lowest bits), which number the levels of the format.
//
//   Source  llama.cpp, ggml/src/ggml-common.h (MIT): iq2xxs_grid, iq2xs_grid, iq2s_grid, iq3xxs_grid, iq3s_grid
#pragma once

#include <array>
#include <cstdint>

namespace thimble {

extern const std::array<uint16_t, 256> kGridIq2Xxs;
extern const std::array<uint16_t, 512> kGridIq2Xs;
extern const std::array<uint16_t, 1024> kGridIq2S;
extern const std::array<uint16_t, 256> kGridIq3Xxs;
extern const std::array<uint16_t, 512> kGridIq3S;

// Seven signs and the eighth that makes their number even: bit i set where value i is negative.
inline uint8_t even_signs(uint32_t seven) noexcept {
  return static_cast<uint8_t>(seven | (static_cast<uint32_t>(__builtin_popcount(seven)) & 1) << 7);
}

// `count` values of a row of a grid: levels[digit] times scale, negative where the sign's bit is set.
template <int count, int bits>
inline void write_row(uint16_t row, const uint8_t* levels, float scale, uint8_t signs, float* to) noexcept {
  for (int i = 0; i < count; ++i) {
    const float value = scale * static_cast<float>(levels[row >> (bits * i) & ((1 << bits) - 1)]);
    to[i] = signs >> i & 1 ? -value : value;
  }
}

inline constexpr uint8_t kLevelsIq2[4] = {0x08, 0x19, 0x2b, 0};

}  // namespace thimble
