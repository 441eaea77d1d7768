// Adam's moments, for the optimizers that build on them, and AdamW as what moves the parameters that another optimizer
// leaves alone.
#pragma once

#include "methods/optimizers/update_expr.h"

namespace thimble {

inline constexpr Option kAdamOptions[] = {
    {"beta1", 0.9, 0, 0.999999, "decay of the mean of gradients"},
    {"beta2", 0.999, 0, 0.9999999, "decay of the mean of squared gradients"},
    {"epsilon", 1e-8, 0, 1, "added to the root"},
};

// m and v, of this shape.
std::vector<StateSpec> adam_states(const Shape& shape);

// Takes a gradient (of the shape of states `first` and the one after it) into the moments; returns
// (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), a new value.
ValueId adam_direction(Update& update, ValueId gradient, size_t first = 0);

// The same without correction of the bias: m / (sqrt(v) + eps), of states 0 and 1.
ValueId adam_ratio(Update& update, ValueId gradient);

// The whole update of AdamW with states 0 and 1.
void apply_adamw(Update& update);

}  // namespace thimble
