// The levels that GGUF's iq4 formats share: sixteen, closer near zero.
#pragma once

#include <cstdint>

namespace thimble {

// llama.cpp, ggml/src/ggml-common.h: kvalues_iq4nl
inline constexpr int8_t kLevelsIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

}  // namespace thimble
