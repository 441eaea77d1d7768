// What techniques that turn a layer's input share: orthogonal blocks made of skew-symmetric ones.
#pragma once

#include "methods/rewrite.h"

namespace thimble {

// Skew-symmetric blocks [n * size, size] of the numbers above their diagonals, [n, size (size - 1) / 2] row by row.
ValueId skew_blocks(ModuleRewrite& m, ValueId numbers, int64_t size, const std::string& name);
// (I - Q)(I + Q)^-1 for each of n blocks.
ValueId cayley(ModuleRewrite& m, ValueId q, int64_t blocks, const std::string& name);
// I + 2 Q + 2 Q^2 + ... + Q^power, as Horner evaluates it.
ValueId cayley_series(ModuleRewrite& m, ValueId q, int64_t blocks, int64_t power, const std::string& name);

// x diag(R_1 ... R_n), or with the transposed blocks.
ValueId turned(ModuleRewrite& m, ValueId x, ValueId r, int64_t blocks, bool transposed, bool shared, const Codec* codec,
               const std::string& name);

}  // namespace thimble
