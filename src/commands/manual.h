// The manual page and the completions of shells, made from the flag tables.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace thimble {

class CommandLine;

std::string man_page(const CommandLine& line);  // troff
// "bash", "zsh" or "fish"; another is invalid_argument.
Result<std::string> completions(const CommandLine& line, std::string_view shell);

}  // namespace thimble
