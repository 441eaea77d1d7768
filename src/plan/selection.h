// Which parameters of a training graph train: what the selector of a run answers, applied.
#pragma once

#include "plan/training.h"

namespace thimble {

// All parameters of the method, in the order of the graph, as a selector sees them.
std::vector<Selectable> selectable_parameters(const TrainingSpec& spec, const Graph& graph);

// The parameters that train in the period that is planned. Those that never train become weights in the codec of their
// file and are listed in `frozen`; where there are periods, those of layers get slots. An error where nothing trains,
// or where layers that take turns are not alike.
Result<std::vector<ValueId>> select_parameters(const TrainingSpec& spec, TrainingGraph& train);

}  // namespace thimble
