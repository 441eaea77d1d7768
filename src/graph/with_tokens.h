// A graph for passes of another number of tokens.
#pragma once

#include "graph/graph.h"

namespace thimble {

// The same nodes on `tokens` rows: inputs that count tokens (Extent::tokens) have as many, and what is made has the
// types that the shape rules derive of them. Errors (shape): what an operation's attributes fix does not go with as
// many.
Result<Graph> with_tokens(Graph graph, int64_t tokens);

}  // namespace thimble
