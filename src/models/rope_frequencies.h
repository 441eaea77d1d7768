// Frequencies of rotary position embedding under the scalings of the field.
#pragma once

#include <vector>

#include "models/architecture.h"

namespace thimble {

struct RopeFrequencies {
  std::vector<float> inverse;  // [head_dim / 2], radians a position
  double scale = 1;            // of cos and sin (yarn's attention factor)
};
RopeFrequencies rope_frequencies(const Architecture& architecture);

}  // namespace thimble
