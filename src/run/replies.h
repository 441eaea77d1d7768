// Many prompts, answered greedily by batched decoding.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "run/generator.h"

namespace thimble {

struct Exchange {
  std::vector<int32_t> prompt;
  int64_t most = 0;            // tokens of the reply
  std::vector<int32_t> reply;  // without the token that ended it
  bool ended = false;          // by a stop token
};

// Fills the replies. Slots that have become free are filled together, once they are half of all: a prompt alone costs a
// pass over all weights. A reply does not depend on what else is in the batch. Replies should have their memory
// already.
Result<void> reply_to_all(Generator& generator, std::span<Exchange> exchanges, std::span<const int32_t> stops,
                          const std::function<void(int64_t done)>& progress);

}  // namespace thimble
