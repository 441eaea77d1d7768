// The fastest plan within a budget, for passes of a given number of rows.
#pragma once

#include <optional>

#include "plan/candidates.h"

namespace thimble {

// Among choices within the bytes that their eagerness may take (without the runtime), and that take less than
// `beat_seconds`; none of them on disk where `disk` is false.
std::optional<Found> fastest_choice(Candidates& candidates, const Limits& limits, bool disk, double beat_seconds);

}  // namespace thimble
