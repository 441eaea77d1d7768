// Damaged copies of good files.
#pragma once

#include <string>

#include "core/random.h"

namespace thimble {

// A few bytes changed, cut off, doubled or set to the numbers that overflow.
inline std::string damaged(std::string bytes, const Random& random, uint64_t& next, size_t header) {
  const uint64_t changes = 1 + random.below(next++, 4);
  for (uint64_t i = 0; i < changes && !bytes.empty(); ++i) {
    const size_t at = random.below(next++, std::min(header, bytes.size()));
    switch (random.below(next++, 6)) {
      case 0:
        bytes[at] = static_cast<char>(random.bits(next++));
        break;
      case 1:
        bytes[at] ^= static_cast<char>(1u << random.below(next++, 8));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.insert(at, bytes.substr(at, random.below(next++, 64)));
        break;
      case 4:
        bytes.erase(at, random.below(next++, 64));
        break;
      case 5:
        for (size_t j = at; j < std::min(at + 8, bytes.size()); ++j)
          bytes[j] = random.below(next++, 2) ? '\xff' : '\x7f';
        break;
    }
  }
  return bytes;
}

}  // namespace thimble
