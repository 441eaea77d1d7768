// The fastest plan within a budget, for passes of a given number of rows.
#pragma once

#include <optional>

#include "plan/candidates.h"

namespace thimble {

// Among choices within `limit_bytes` (without the runtime) that take less than `beat_seconds`; none of
// them on disk where `disk` is false.
std::optional<Found> fastest_choice(Candidates& candidates, int64_t limit_bytes, bool disk, double beat_seconds);

}  // namespace thimble
