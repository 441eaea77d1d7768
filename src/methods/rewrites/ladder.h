// What networks beside a model share that climb it block by block.
#pragma once

#include "methods/side.h"

namespace thimble {

inline constexpr std::string_view kBesideNotMerged =
    "runs a network beside the model, which no weight of the model comes to";

// m s + (1 - m) t of the network's own rows s and those of a tap t, with m = sigmoid(slope gate): the gate f32 [1], or
// [width] for one a column.
ValueId ladder_mixed(SideRewrite& side, ValueId tapped, ValueId gate, double slope, std::string name);

}  // namespace thimble
