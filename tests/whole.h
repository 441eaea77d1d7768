// Long tests run a part of their cases; all of them with `./dev test --slow`, which sets THIMBLE_WHOLE_TESTS.
#pragma once

#include <cstdlib>

namespace thimble {

inline bool whole_tests() { return std::getenv("THIMBLE_WHOLE_TESTS") != nullptr; }

}  // namespace thimble
