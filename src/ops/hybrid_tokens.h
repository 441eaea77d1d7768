// Text that is wrong in places: what layers that learn by goodness have beside the real one.
#pragma once

#include "graph/graph.h"

namespace thimble {

// in: ids i32 [t], starts i32 [t], the first row of each row's text, targets i32 [t] (-1: none).
// out: ids i32 [t], some replaced by earlier ones of their text; f32 [t] each, 1 where a row counts, which has to have
// a target: of the text as it is all such rows, of the other one those that are wrong.
struct HybridTokensAttributes {
  double replaced = 0;   // part of the tokens
  uint64_t stream = 0;   // of the random numbers
  bool lasting = false;  // a row is wrong where its text has been so before, too; else where its own token is
  bool operator==(const HybridTokensAttributes&) const = default;
};
extern const Op kHybridTokens;

}  // namespace thimble
