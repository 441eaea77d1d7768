// Ranges of code points as sequences of byte ranges of UTF-8.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace thimble {

struct ByteRange {
  uint8_t first, last;
};
struct ByteSequence {
  std::array<ByteRange, 4> bytes;
  size_t length;
};

// Those of [first, last], without surrogates.
std::vector<ByteSequence> utf8_sequences(uint32_t first, uint32_t last);

}  // namespace thimble
