// What a run tells after a step and after an evaluation.
#pragma once

#include <cstdint>

namespace thimble {

// Of preference pairs.
struct Rewards {
  int64_t pairs = 0, preferred = 0;  // all, and those whose chosen reply has the larger reward
  double margin = 0;                 // sum of what it has beyond the other's
  double accuracy() const { return pairs ? static_cast<double>(preferred) / static_cast<double>(pairs) : 0; }
  double mean_margin() const { return pairs ? margin / static_cast<double>(pairs) : 0; }
};

struct StepEvent {
  int64_t step = 0, steps = 0;  // step counts from 1
  double loss = 0, learning_rate = 0, grad_norm = 0, tokens_per_second = 0, seconds = 0;
  int64_t tokens = 0;
  int64_t peak_rss_bytes = 0;
  Rewards rewards;
  double balance = 0;  // the second loss of routed FFNs, a token; not part of `loss`
};

// Of preference pairs `nll` is the mean loss of a pair, and there is no perplexity.
struct EvalEvent {
  int64_t step = 0;
  double nll = 0, perplexity = 0;
  int64_t tokens = 0;
  Rewards rewards = {};
};

// Teacher-forced likelihood.
struct Score {
  double nll = 0;      // sum, in nats
  int64_t tokens = 0;  // predicted
  double mean() const { return tokens ? nll / static_cast<double>(tokens) : 0; }
};

}  // namespace thimble
