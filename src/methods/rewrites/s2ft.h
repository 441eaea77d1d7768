// S2FT's parts: the layers, and which of their channels train where the data say.
#pragma once

#include "methods/rewrite.h"

namespace thimble {

extern const Settling kS2ftChannels;

}  // namespace thimble
