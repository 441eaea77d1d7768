// Where in a training graph nodes of the update are done.
#pragma once

#include "graph/graph.h"

namespace thimble {

// Moves nodes [begin, end), all of the update, to right after the last node that makes what they read, or reads what
// they write over, then or to compute it again: a gradient is consumed, or measured, as soon as it exists.
void hoist(Graph& graph, size_t begin, size_t end);

}  // namespace thimble
