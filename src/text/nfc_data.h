// Unicode's data for NFC.
#pragma once

#include <cstdint>

namespace thimble {

// Canonical, sorted by code; `second` is 0 for a decomposition to one character. Hangul is computed instead.
struct Decomposition {
  uint32_t code, first, second;
  bool composes;  // the two make the one again
};
extern const Decomposition kDecompositions[2061];

// Characters first..last have this combining class; all others have 0. Sorted.
struct CombiningRange {
  uint32_t first, last;
  uint8_t combining;
};
extern const CombiningRange kCombining[382];

}  // namespace thimble
