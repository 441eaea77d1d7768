#include "kernels/tile.h"

#include <bit>

#include "kernels/clones.h"

namespace thimble {
namespace {

inline float widened(float value) { return value; }
inline float widened(uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

// To nearest even; NaN stays NaN.
inline uint16_t bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7FFFFFFF) > 0x7F800000 ? (bits >> 16) | 0x40 : rounded);
}
inline void put(float value, float& to) { to = value; }
inline void put(float value, uint16_t& to) { to = bf16(value); }

template <class T>
__attribute__((always_inline)) inline void store(const TileStore& t, T* c, const T* addend) {
  for (int64_t r = 0; r < t.rows; ++r) {
    const float* const acc = t.acc + r * t.acc_stride;
    T* const to = c + r * t.stride;
    const T* const other = addend + (addend ? r * t.stride : 0);
    if (t.bias && addend)
      for (int64_t i = 0; i < t.columns; ++i) put((acc[i] + t.bias[i]) + widened(other[i]), to[i]);
    else if (t.bias)
      for (int64_t i = 0; i < t.columns; ++i) put(acc[i] + t.bias[i], to[i]);
    else if (addend)
      for (int64_t i = 0; i < t.columns; ++i) put(acc[i] + widened(other[i]), to[i]);
    else
      for (int64_t i = 0; i < t.columns; ++i) put(acc[i], to[i]);
  }
}

}  // namespace

CLONES void store_tile(const TileStore& tile, float* c, const float* addend) noexcept { store(tile, c, addend); }
CLONES void store_tile(const TileStore& tile, uint16_t* c, const uint16_t* addend) noexcept { store(tile, c, addend); }

CLONES void interleave_words(const uint16_t* low, const uint16_t* high, uint32_t* to, int64_t count) noexcept {
  for (int64_t i = 0; i < count; ++i) to[i] = low[i] | static_cast<uint32_t>(high[i]) << 16;
}

}  // namespace thimble
