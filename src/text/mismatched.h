// Prompts of judged replies, each with the reply to another prompt: pairs that nobody wrote, of which KTO estimates how
// far a model has drifted from its reference.
//
// The reply is that of the example before, or before that where preference pairs became two examples each, so that both
// have a prompt of their own; the first examples take those of the last. An example's partner is hence the same in
// every epoch. What is longer than the context is cut at its end.
#pragma once

#include "text/dataset.h"

namespace thimble {

class Mismatched {
 public:
  // data: of judged replies; must outlive it. Refuses one of too few examples. context: tokens of a pair, at most.
  static Result<Mismatched> open(Dataset& data, int64_t context);

  // The prompt of an example and the reply to another, until the next is read.
  Result<const Example*> read(int64_t example);

 private:
  Mismatched(Dataset& data, int64_t context, int64_t distance);
  Dataset* data_;
  int64_t context_, distance_;
  Example pair_, other_;
};

}  // namespace thimble
