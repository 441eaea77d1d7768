// How bytes are shown.
#pragma once

#include <cstdint>
#include <string>

#include "thimble/ledger.h"

namespace thimble {

// 12.3 MB; MB = 10^6 bytes.
std::string megabytes(int64_t bytes);

// A bar of `width` columns of which `part` is filled, to the eighth of a column.
std::string bar_text(double part, int width);

}  // namespace thimble
