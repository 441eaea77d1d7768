// A flag whose value is one of a few names.
#pragma once

#include <fmt/ranges.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>

#include "core/result.h"

namespace thimble {

inline Result<void> one_of(const char* flag, const std::string& value, std::initializer_list<std::string_view> names) {
  if (std::find(names.begin(), names.end(), value) != names.end()) return {};
  return fail(ErrorCode::invalid_argument, "{}: expected one of {}, found '{}'", flag, fmt::join(names, ", "), value);
}

}  // namespace thimble
