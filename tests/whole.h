// Long tests run a part of their cases; all of them with `./dev test --slow`, which sets THIMBLE_WHOLE_TESTS.
#pragma once

#include <cstdlib>

namespace thimble {

inline bool whole_tests() { return std::getenv("THIMBLE_WHOLE_TESTS") != nullptr; }

// Of a test that is not about threads: tests run side by side, one on each CPU. The race detector wants two.
inline int test_threads() {
#ifdef __SANITIZE_THREAD__
  return 2;
#else
  return whole_tests() ? 2 : 1;
#endif
}

// In qemu (label of its CPU in tests/CMakeLists.txt), which takes ten to a hundred times as long.
inline bool emulated() { return std::getenv("THIMBLE_EMULATED") != nullptr; }

}  // namespace thimble
