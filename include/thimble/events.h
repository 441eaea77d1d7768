// What a run tells after a step and after an evaluation.
#pragma once

#include <cstdint>

namespace thimble {

// Of preference pairs, or of replies that are judged one by one.
struct Rewards {
  int64_t pairs = 0, preferred = 0;       // all, and those whose chosen reply has the larger reward
  double margin = 0;                      // sum of what it has beyond the other's
  int64_t wanted = 0, unwanted = 0;       // replies
  double of_wanted = 0, of_unwanted = 0;  // sums of their rewards
  double drift = 0;  // of the model from its reference, where the objective reads that: not below 0

  int64_t terms() const { return pairs + wanted + unwanted; }
  double accuracy() const { return pairs ? static_cast<double>(preferred) / static_cast<double>(pairs) : 0; }
  // Of pairs, or of wanted replies beyond the others; 0 where one of them is missing.
  double mean_margin() const {
    if (pairs) return margin / static_cast<double>(pairs);
    return wanted && unwanted ? of_wanted / static_cast<double>(wanted) - of_unwanted / static_cast<double>(unwanted)
                              : 0;
  }
};

// What a model says of labelled texts, beside what they are.
struct LabelledTexts {
  bool numbers = false;      // else classes
  int64_t texts = 0;         // 0: this is no evaluation of such
  double nll = 0;            // of classes: the mean over texts
  double accuracy = 0;       // of classes: the part of the texts whose class has the largest score, of equals the first
  double squared_error = 0;  // of numbers: the mean over texts
  double pearson = 0;        // of numbers: their correlation; 0 where one side does not vary
};

struct StepEvent {
  int64_t step = 0, steps = 0;  // step counts from 1
  double loss = 0, learning_rate = 0, grad_norm = 0, tokens_per_second = 0, seconds = 0;
  int64_t tokens = 0;
  int64_t peak_rss_bytes = 0;
  Rewards rewards;
  double balance = 0;  // the second loss of routed FFNs, a token; not part of `loss`
};

// Of preference pairs and judged replies `nll` is the mean loss of one, and there is no perplexity.
struct EvalEvent {
  int64_t step = 0;
  double nll = 0, perplexity = 0;
  int64_t tokens = 0;
  Rewards rewards = {};
  LabelledTexts labels = {};
};

// Teacher-forced likelihood.
struct Score {
  double nll = 0;      // sum, in nats
  int64_t tokens = 0;  // predicted
  double mean() const { return tokens ? nll / static_cast<double>(tokens) : 0; }
};

}  // namespace thimble
