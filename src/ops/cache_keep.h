// Forgetting tokens of a cache of keys and values.
#pragma once

#include "ops/table.h"

namespace thimble {

// Moves the keys and values of one slot that stay to its first places; keys are turned from the old position to the
// new. in: cache_k, cache_v [slots, places, kv], slot i32 [1], kept i32 [places] (the old place of each new one,
// rising; -1 behind the last), table f32 [places, rotated] of (cos, sin) pairs, or absent: keys are not rotated;  out:
// the caches.
extern const Op kCacheKeep;  // RopeAttributes: how keys were rotated

}  // namespace thimble
