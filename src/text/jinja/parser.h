// A template's source to its tree. What jinja2 refuses when it compiles is refused here.
#pragma once

#include <string_view>

#include "text/jinja/tree.h"

namespace thimble::jinja {

Result<Tree> parse(std::string_view source);

}  // namespace thimble::jinja
