// Which parameters of a training graph train: what the selector of a run answers, applied.
#pragma once

#include "plan/training.h"

namespace thimble {

// All parameters of the method, in the order of the graph, as a selector sees them.
std::vector<Selectable> selectable_parameters(const TrainingSpec& spec, const Graph& graph);

// A run without steps, of one window at a time and no more memory than a backward pass takes: it measures, of every
// parameter of the method, the squared norm of the gradient, in a result of this name. Nothing moves, and weights stay
// as they are stored.
TrainingSpec scoring_spec(const TrainingSpec& spec);
std::string score_name(std::string_view parameter);
// The same with the layers of one technique of the stack probed, and of that technique alone: the gradient of what a
// layer is probed with (ModuleRewrite::probe) is itself the result, or where that is a weight the sum of the squares of
// each of its columns.
TrainingSpec probing_spec(const TrainingSpec& spec, size_t place);

// The run with what the adapters of these layers add scaled down, for the losses that a selector probes.
TrainingSpec suppressed_spec(const TrainingSpec& spec, const std::vector<bool>& layers);

// The parameters that train in the period that is planned. Those that never train become weights in the codec of their
// file and are listed in `frozen`; where there are periods, those of layers get slots. An error where nothing trains,
// or where layers that take turns are not alike.
Result<std::vector<ValueId>> select_parameters(const TrainingSpec& spec, TrainingGraph& train);

}  // namespace thimble
