// Modules that learn by goodness (Goodness in methods/estimator.h): beside the text every module sees a hybrid of it,
// and its loss asks for much of the one and little of the other. What goes on to the next module, and from the last to
// the head, carries no gradient back.
#pragma once

#include "graph/rewrite.h"
#include "models/build.h"
#include "plan/training.h"

namespace thimble {

// The model of `graph` with such modules. `loss`: the name of that of what is predicted.
GraphCopy cut_by_goodness(const TrainingSpec& spec, const LocalModules& modules, const Graph& graph,
                          const BuiltModel& model, const std::string& loss);

}  // namespace thimble
