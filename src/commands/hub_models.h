// --model org/name[:file]: a model of the hub, from the cache of Hugging Face's tools, or fetched into it.
#pragma once

#include <vector>

#include "commands/arguments.h"

namespace thimble {

// Puts the paths of models in the place of such names. Fetching is done by `thimble pull`, in a process of its own, as
// what it takes of memory is no part of the command's budget. HF_HUB_OFFLINE: what is not in the cache is an error.
Result<void> resolve_hub_models(std::vector<Argument>& arguments);

}  // namespace thimble
