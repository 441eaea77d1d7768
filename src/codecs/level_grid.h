// Codecs of evenly spaced levels, taken apart: the scale that a block gets, and the code of a number on its own.
// Methods that choose the codes of a block one after another (GPTQ) need both.
#pragma once

#include <cstdint>

#include "codecs/codec.h"

namespace thimble {

// Of one block of a codec: level i, 0 <= i < codes, is step * i + first.
struct Levels {
  float step = 0, first = 0;
  int codes = 1;

  float value(int code) const noexcept { return step * static_cast<float>(code) + first; }
  // The code whose level is nearest; 0 where x is not a number.
  int nearest(float x) const noexcept;
};

struct LevelGrid {
  const Codec* codec;
  // The levels that the codec's own encoder would give a block of these numbers, as they are stored.
  Levels (*levels)(const float* block) noexcept;
  // Writes a block of these codes, whose levels came from levels() of the same codec.
  void (*pack)(const Levels& levels, const uint8_t* codes, std::byte* to) noexcept;
};

// nullptr where the codec's levels are not evenly spaced.
const LevelGrid* level_grid(const Codec& codec);

}  // namespace thimble
