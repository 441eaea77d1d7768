// The FFN of a block whose tokens go to experts (Routing), in nodes: gates by the router, places sorted by expert, and
// products an expert, of exactly the tokens that it has.
#pragma once

#include "models/router.h"

namespace thimble {

struct RoutedFfn {
  ValueId sum = kNone;      // [tokens, width]: stream + sum over a token's experts of gate x FFN(x)
  ValueId balance = kNone;  // Routes::balance
};

// stream: what the result is added to; kNone: nothing.
RoutedFfn add_routed_ffn(const RouterContext& context, const FeedForward& ffn, ValueId stream);

}  // namespace thimble
