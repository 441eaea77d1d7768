// What a run tells after a step and after an evaluation.
#pragma once

#include <cstdint>

namespace thimble {

struct StepEvent {
  int64_t step = 0, steps = 0;  // step counts from 1
  double loss = 0, learning_rate = 0, grad_norm = 0, tokens_per_second = 0, seconds = 0;
  int64_t tokens = 0;
  int64_t peak_rss_bytes = 0;
};

struct EvalEvent {
  int64_t step = 0;
  double nll = 0, perplexity = 0;
  int64_t tokens = 0;
};

// Teacher-forced likelihood.
struct Score {
  double nll = 0;      // sum, in nats
  int64_t tokens = 0;  // predicted
  double mean() const { return tokens ? nll / static_cast<double>(tokens) : 0; }
};

}  // namespace thimble
