// What the blocks of a model that is trained from scratch are made of: --set block.OPTION=VALUE.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "methods/option.h"
#include "models/architecture.h"

namespace thimble {

// Numbers; beside them, block.mixer names an entry of mixers() and block.router one of routers() ("none": a plain FFN),
// or several with | between: one block after another, and then anew.
std::span<const Option> block_options();
inline constexpr std::string_view kBlocks = "block";  // as --set calls it

// Applies those of `settings` ("socket.option=value") that are about blocks. Without any the architecture stays what it
// is; with some it becomes one of family thimble, as no other knows such blocks.
Result<void> set_blocks(const std::vector<std::string>& settings, Architecture& architecture);

}  // namespace thimble
