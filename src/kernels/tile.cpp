#include "kernels/tile.h"

#include "codecs/dispatch.h"
#include "core/half.h"
#include "kernels/round_bf16.h"

namespace thimble {
namespace {

inline float widened(float value) { return value; }
inline float widened(uint16_t value) { return bf16_to_f32(value); }
inline void put(float value, float& to) { to = value; }
inline void put(float value, uint16_t& to) { to = static_cast<uint16_t>(round_bf16(value)); }

template <class T>
THIMBLE_BODY void store(const TileStore& t, T* c, const T* addend) noexcept {
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

void store_tile(const TileStore& tile, float* c, const float* addend) noexcept {
  dispatched<store<float>>(tile, c, addend);
}
void store_tile(const TileStore& tile, uint16_t* c, const uint16_t* addend) noexcept {
  dispatched<store<uint16_t>>(tile, c, addend);
}

}  // namespace thimble
