// --lr auto: a learning rate by a published law, and where it is from.
//
//   Paper   Li et al. 2025, arXiv:2503.04715 (Step Law), eq. 1: lr = 1.79 N^-0.713 D^0.307, batch = 0.58 D^0.571 tokens
//           N     parameters without embedding and head
//           D     tokens of the run
//   Choice  the law is for AdamW training every weight from scratch; any other run is refused
#pragma once

#include <string>

#include "core/result.h"
#include "methods/optimizer.h"
#include "models/architecture.h"

namespace thimble {

struct AutoRate {
  double rate;
  std::string source;  // one line: the law, its numbers, and the range in which it was measured if they are outside
};
// tokens: of the run; batch_tokens: of a step.
AutoRate step_law(const Architecture& architecture, int64_t tokens, int64_t batch_tokens);
// Refuses runs for which the law was not made.
Result<void> check_auto_rate(const Optimizer& optimizer, bool from_scratch);

}  // namespace thimble
