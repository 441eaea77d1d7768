#include "kernels/tile.h"

#include <bit>

#include "core/half.h"
#include "kernels/clones.h"
#include "kernels/round_bf16.h"

namespace thimble {
namespace {

inline float widened(float value) { return value; }
inline float widened(uint16_t value) { return bf16_to_f32(value); }
inline void put(float value, float& to) { to = value; }
inline void put(float value, uint16_t& to) { to = static_cast<uint16_t>(round_bf16(value)); }

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

namespace {

// word(row, column): one word of what is written. A few tiles at a time, so that what is written stays in the
// first-level cache.
template <int64_t width, class Word>
__attribute__((always_inline)) inline void cut_tiles(int64_t words, int64_t tiles, uint32_t* to, Word word) {
  constexpr int64_t kTogether = 32 / width;
  for (int64_t first = 0; first < tiles; first += kTogether) {
    const int64_t last = first + kTogether < tiles ? first + kTogether : tiles;
    for (int64_t w = 0; w < words; ++w)
      for (int64_t t = first; t < last; ++t)
        for (int64_t i = 0; i < width; ++i) to[(t * words + w) * width + i] = word(w, t * width + i);
  }
}

template <class Word>
__attribute__((always_inline)) inline void cut_tiles(int64_t words, int64_t tiles, int64_t width, uint32_t* to,
                                                     Word word) {
  if (width == 8)
    cut_tiles<8>(words, tiles, to, word);
  else
    cut_tiles<4>(words, tiles, to, word);
}

}  // namespace

CLONES void interleave_tiles(const uint16_t* from, int64_t stride, int64_t words, int64_t tiles, int64_t width,
                             uint32_t* to) noexcept {
  cut_tiles(
      words, tiles, width, to, [=](int64_t w, int64_t i) __attribute__((always_inline)) {
        const uint16_t* const low = from + 2 * w * stride + i;
        return low[0] | static_cast<uint32_t>(low[stride]) << 16;
      });
}

CLONES void widen_tiles(const uint16_t* from, int64_t stride, int64_t words, int64_t tiles, int64_t width,
                        uint32_t* to) noexcept {
  cut_tiles(
      words, tiles, width, to, [=](int64_t w, int64_t i) __attribute__((always_inline)) {
        return static_cast<uint32_t>(from[w * stride + i]) << 16;
      });
}

CLONES void widen_tiles(const float* from, int64_t stride, int64_t words, int64_t tiles, int64_t width,
                        uint32_t* to) noexcept {
  cut_tiles(
      words, tiles, width, to, [=](int64_t w, int64_t i) __attribute__((always_inline)) {
        return std::bit_cast<uint32_t>(from[w * stride + i]);
      });
}

}  // namespace thimble
