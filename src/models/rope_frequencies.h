// Frequencies of rotary position embedding under the scalings of the field.
#pragma once

#include <vector>

#include "models/architecture.h"

namespace thimble {

struct RopeFrequencies {
  std::vector<float> inverse;  // [rotated / 2], radians a position
  double scale = 1;            // of cos and sin (the attention factor of yarn and longrope)
};
// What yarn and longrope multiply cos and sin with.
double rope_scale(const RopeScaling& scaling);
// length: of the longest sequence, on which `dynamic` and `longrope` depend.
RopeFrequencies rope_frequencies(const Rope& rope, int64_t length);
// cos and sin of every position and frequency, [positions, rotated] as (cos, sin) pairs; of queries that grow with
// their position, times that growth. Scalings that depend on the length of the sequence take `positions` for it.
Initial rope_table(const Rope& rope, int64_t positions, bool of_queries = false);

}  // namespace thimble
