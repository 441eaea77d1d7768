// `--config recipe.yaml`: the same keys as the flags, without the dashes in front.
#pragma once

#include <CLI/CLI.hpp>

namespace thimble {

void add_yaml_config(CLI::App& app);

}  // namespace thimble
