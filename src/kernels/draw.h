// Random numbers of one stream, many at once.
#pragma once

#include <cstdint>

#include "core/random.h"

namespace thimble {

// to[i] = random.normal(first + i), with the same bits.
void draw_normal(const Random& random, uint64_t first, int64_t count, float* to) noexcept;

}  // namespace thimble
