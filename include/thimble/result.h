// Errors as values: what every call of thimble that can fail returns.
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>

namespace thimble {

// io and diverged (a loss that is not finite) are failures while running; the others but the last are for what was
// given.
enum class ErrorCode { invalid_argument, shape, unsupported, over_budget, io, corrupt, diverged, cancelled };

// A message says what was being done, what was expected, what was found, and what to do.
struct Error {
  ErrorCode code;
  std::string message;
  int64_t least_bytes = 0;  // over_budget: the smallest budget that would do, where it is known
};

template <class T>
using Result = tl::expected<T, Error>;

}  // namespace thimble
