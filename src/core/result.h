// Making and handing on errors. Every boundary where a user's input, a file or a plan can fail returns Result<T>.
// Assertions are for programming faults only.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "thimble/result.h"

namespace thimble {

using Failure = tl::unexpected<Error>;

template <class... Args>
Failure fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return Failure(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

constexpr std::string_view code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::shape:
      return "shape";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::over_budget:
      return "over_budget";
    case ErrorCode::io:
      return "io";
    case ErrorCode::corrupt:
      return "corrupt";
    case ErrorCode::diverged:
      return "diverged";
    case ErrorCode::cancelled:
      return "cancelled";
  }
  return "";
}

}  // namespace thimble

// Yields the value of a Result, or returns its error from the enclosing function. Not behind another member that owns
// memory in one pair of braces, {make(), TRY(...)}: GCC does not destroy the members of an object that is half made.
#define TRY(...)                                                                 \
  ({                                                                             \
    auto try_result_ = (__VA_ARGS__);                                            \
    if (!try_result_) return ::thimble::Failure(std::move(try_result_).error()); \
    *std::move(try_result_);                                                     \
  })

// The same for Result<void>.
#define CHECK_OK(...)                                              \
  do {                                                             \
    if (auto check_result_ = (__VA_ARGS__); !check_result_)        \
      return ::thimble::Failure(std::move(check_result_).error()); \
  } while (false)
