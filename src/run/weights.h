// Filling the persistent part of the arena: weights from files, fresh adapters, tables.
#pragma once

#include "core/threads.h"
#include "files/adapter.h"
#include "models/model_source.h"
#include "plan/training.h"
#include "run/values.h"

namespace thimble {

// Reads every weight and parameter that the source has. Stored codecs are kept; where the layout wants another (f32
// masters of a quantised file), rows are converted.
Result<void> load_weights(const ModelSource& source, Values& values);

// A of LoRA: uniform in +-1/sqrt(in); B: zeros. The numbers depend on the seed and the name only.
Result<void> initialise_adapter(Values& values, uint64_t seed);

// Fresh weights of a model to be trained from scratch: normal numbers of deviation 0.02, those of projections back into
// the residual stream scaled by 1/sqrt(2 layers) (GPT-2); gains 1, biases 0.
Result<void> initialise_weights(const Architecture& architecture, Values& values, uint64_t seed);

Result<void> load_adapter(const LoraAdapter& adapter, Values& values);

// States of an optimizer before its first step.
Result<void> initialise_states(const std::vector<TrainedParameter>& parameters, Values& values);

// Tables that hold constants (rotations).
void fill_constants(const Architecture& architecture, const Values& values);

}  // namespace thimble
