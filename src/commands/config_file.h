// `--config recipe.yaml`: the same keys as the flags, without the dashes in front. Flags on the command line win; those
// of `set` are added to.
#pragma once

#include "commands/arguments.h"

namespace thimble {

// `arguments` (without the names of program and command) with `--config FILE` replaced by what the file says, which
// comes first. A key that is no flag of the command is refused, with the nearest ones.
Result<std::vector<Argument>> expand_config(const FlagSet& command, std::vector<std::string> arguments);

}  // namespace thimble
