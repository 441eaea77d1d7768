// The level that a test program was asked to run on, for those that start the thimble program themselves; "" when none.
#pragma once

#include <string>

namespace thimble {

inline std::string& isa_flag() {
  static std::string level;
  return level;
}

}  // namespace thimble
