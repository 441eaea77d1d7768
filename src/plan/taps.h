// What techniques that run beside a model are given of it (ModelTaps): the plan knows both the model and the
// techniques.
#pragma once

#include "methods/rewrite.h"
#include "models/build.h"

namespace thimble {

// Of a model that was built with these options.
ModelTaps taps_of(const BuiltModel& model, const Architecture& architecture, const BuildOptions& options);

}  // namespace thimble
