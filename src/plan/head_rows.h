// Which matrices make the queries and keys of attentions: for optimizers whose blocks are heads.
#pragma once

#include <vector>

#include "graph/graph.h"

namespace thimble {

// Rows of one head, by value, of the matrices [out, in] whose products become the queries and keys of an attention,
// through rotations and norms that keep the width; 0: of all other values.
std::vector<int64_t> head_rows(const Graph& graph);

}  // namespace thimble
