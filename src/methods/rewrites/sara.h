// SaRA's two parts: the layers, and the adjustment of what trains.
#pragma once

#include "methods/optimizer.h"
#include "methods/option.h"

namespace thimble {

inline constexpr Option kSaraOptions[] = {
    {"ratio", 0.1, 1e-6, 1, "of the numbers of a row that train, the smallest, one at least"},
    whole_number("adjust_at", 0, 0, 1000000000,
                 "step before which what has grown out of the smallest is frozen; 0: half of the run"),
};
inline constexpr std::string_view kSaraValues = "sara_P";

extern const Wrapper kSaraAdjustment;

}  // namespace thimble
