// Matrices of 8-bit floating-point numbers with scales, for the tools that write more than these.
#pragma once

#include "models/quantised/parts.h"

namespace thimble {

// In the type of the scales; nullptr where the matrix is stored plainly.
Result<std::shared_ptr<const PackedRows>> open_fp8_scaled(const PackedSource& source);

}  // namespace thimble
