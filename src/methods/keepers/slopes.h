// What the keepers share that have a step function in place of the derivative of an activation function f.
//
//   y = f(gate)        the gradient reads the number of the step, a few bits a number, in place of gate
//   y = f(gate) * up   it reads that, up, and f(gate): dgate = dy up f'(gate), dup = dy f(gate). What else reads y gets
//                      f(gate) * up, so that neither gate nor y waits
#pragma once

#include "methods/keeper.h"
#include "ops/keep.h"

namespace thimble {

// The step function for f; nullptr: there is none.
using SlopeOf = const StepSlope* (*)(const OptionValues& options, Activation f);

ValueId saved_product(Keeping& keeping, ValueId value, SlopeOf slope_of);
bool slope_gradient(Keeping& keeping, const Node& node, SlopeOf slope_of);

}  // namespace thimble
