// Filling the persistent part of the arena: weights from files, fresh adapters, tables.
#pragma once

#include <set>
#include <string>

#include "adapters/adapter.h"
#include "models/model_source.h"
#include "run/values.h"

namespace thimble {

// Names of the values that a file has filled.
using Loaded = std::set<std::string, std::less<>>;

// Reads every weight and parameter that the source has. Stored codecs are kept; where the layout wants another (f32
// masters of a quantised file), rows are converted. scope: before the names of the values.
Result<void> load_weights(const ModelSource& source, Values& values, Loaded& loaded, const std::string& scope = {});

// What the adapters' files hold of these values.
Result<void> load_adapters(std::span<const Adapter> adapters, std::span<const AdapterTensor> tensors, Values& values,
                           Loaded& loaded);

// One value in memory, f32 or i32, as it begins with seed 0.
void begin_value(const Layout::Entry& entry, const std::string& name, float* to);

// What no file has filled begins as its owner said (Initial): fresh adapters, weights of a model to be trained from
// scratch, states, tables.
Result<void> initialise(Values& values, const Loaded& loaded, uint64_t seed);

}  // namespace thimble
