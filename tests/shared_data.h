// Golden data lies beside the project, in ../shared/data, and the real model in the user's cache. Tests that need a
// file that is not there skip, naming it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#ifndef THIMBLE_SHARED_DATA
#define THIMBLE_SHARED_DATA "../shared/data"
#endif

namespace thimble {

// The path of a file of the shared data, if it is there.
inline std::optional<std::string> shared_data(std::string_view relative) {
  const std::filesystem::path path = std::filesystem::path(THIMBLE_SHARED_DATA) / relative;
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return path.string();
  return std::nullopt;
}

// SmolLM2-135M-Instruct, Q4_1.
inline std::optional<std::string> smollm2_model() {
  const char* home = std::getenv("HOME");
  const std::filesystem::path path = std::filesystem::path(home ? home : "") / ".cache/thimble/smollm2-135m.gguf";
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) return path.string();
  return std::nullopt;
}

}  // namespace thimble

// Defines `name` as the path, or skips the test.
#define NEED_SHARED_DATA(name, relative)                                                  \
  const auto name##_found_ = ::thimble::shared_data(relative);                            \
  if (!name##_found_) GTEST_SKIP() << "needs " << THIMBLE_SHARED_DATA << "/" << relative; \
  const std::string name = *name##_found_
#define NEED_SMOLLM2(name)                                                        \
  const auto name##_found_ = ::thimble::smollm2_model();                          \
  if (!name##_found_) GTEST_SKIP() << "needs ~/.cache/thimble/smollm2-135m.gguf"; \
  const std::string name = *name##_found_
