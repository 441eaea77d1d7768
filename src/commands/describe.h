// A model, adapter or checkpoint in words: what `inspect` prints.
#pragma once

#include <string>

#include "core/result.h"
#include "files/json.h"

namespace thimble {

// Fails on what is broken or of no known kind. A file that is sound but that thimble cannot run is described, with the
// reason under "not supported".
Result<nlohmann::ordered_json> describe(const std::string& path, bool tensors);

}  // namespace thimble
