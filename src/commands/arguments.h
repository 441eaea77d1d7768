// What was given to a command, checked before CLI11 reads it, so that a message says which flag, or which key of which
// file, what was expected and what was found.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

class FlagSet;

struct Argument {
  std::string text;
  std::string origin;  // "recipe.yaml:3" when a --config file says it; "" on the command line
};

// "--steps" and so on, of the command, and --config.
std::vector<std::string> flag_names(const FlagSet& command);

// arguments: without the program's and the command's name. Numbers are decimal: zeros before them are taken away, so
// that "010" is ten to CLI11 too.
Result<void> check_arguments(const FlagSet& command, std::span<Argument> arguments);

}  // namespace thimble
