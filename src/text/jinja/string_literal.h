// The backslashes of a string in a template.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace thimble::jinja {

// What stands between the quotes, as Python reads it; an error says what is wrong.
Result<std::string> unescaped(std::string_view literal);

}  // namespace thimble::jinja
