// OFT's parts: the layers, and what keeps their rotations small while they train.
#pragma once

#include "methods/optimizer.h"
#include "methods/option.h"
#include "methods/rewrite.h"

namespace thimble {

inline constexpr Option kOftOptions[] = {
    whole_number("block_size", 32, 0, 4096, "b, elements of the input that are turned together; 0: as `blocks` says"),
    whole_number("blocks", 0, 0, 65536, "n, blocks of a layer; 0: as `block_size` says"),
    zero_or_one("shared", 0, "1: all blocks of a layer are the same"),
    zero_or_one("neumann", 1, "1: the inverse is a series; 0: it is exact"),
    whole_number("terms", 5, 1, 64, "of the series"),
    zero_or_one("constrained", 0, "1: rotations stay within eps"),
    {"eps", 6e-5, 0, 1e3, "with constrained: the norm of all Q of a layer, at most"},
};
inline constexpr std::string_view kOftR = "oft_R.weight";

// Rows of numbers above the diagonals of Q_i, each scaled down to |Q_i| <= eps / sqrt(rows) where it is more.
ValueId oft_bounded(Graph& graph, ValueId numbers, double eps, const std::string& name);

extern const Wrapper kOftBound;

}  // namespace thimble
