// The manual page and the completions of shells, made from the flag tables.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace CLI {
class App;
}

namespace thimble {

std::string man_page(const CLI::App& app);  // troff
// "bash", "zsh" or "fish"; another is invalid_argument.
Result<std::string> completions(const CLI::App& app, std::string_view shell);

}  // namespace thimble
