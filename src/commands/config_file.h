// `--config recipe.yaml`: the same keys as the flags, without the dashes in front. Flags on the command line win; those
// of `set` are added to.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

// The arguments (the command first, no program name) with `--config FILE` replaced by what the file says.
Result<std::vector<std::string>> expand_config(std::vector<std::string> arguments);

}  // namespace thimble
