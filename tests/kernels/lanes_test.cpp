#include "kernels/lanes.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/half.h"
#include "kernels/dot/int8_formats.h"

namespace thimble {
namespace {

// Every finite f16, those below 2^-14 among them.
TEST(Lanes, half_to_float_is_exact) {
  for (uint32_t first = 0; first < 0x10000; first += 16) {
    alignas(64) uint16_t halves[16];
    alignas(64) float floats[16];
    for (uint32_t i = 0; i < 16; ++i) halves[i] = static_cast<uint16_t>(first + i);
    store_lanes(half_to_float(*reinterpret_cast<const LaneHalves*>(halves)), floats);
    for (uint32_t i = 0; i < 16; ++i)
      if ((halves[i] & 0x7c00) != 0x7c00) {
        ASSERT_EQ(floats[i], f16_to_f32(halves[i])) << halves[i];
      }
  }
}

}  // namespace
}  // namespace thimble
