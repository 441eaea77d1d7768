// What a loss is the mean of.
#pragma once

#include <cstdint>

namespace thimble {

enum class LossTerm : uint8_t {
  token,  // every token that is learnt
  pair,   // a preference pair: two replies to one prompt
  reply,  // a reply that is said to be wanted or not
  text,   // a text with a label (Labels)
};

}  // namespace thimble
