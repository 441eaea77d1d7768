// Which token comes next, given logits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/result.h"
#include "thimble/options.h"

namespace thimble {

class Sampler {
 public:
  static Result<Sampler> create(const SamplingOptions& options, int64_t vocab);

  // Depends on the seed, the sequence, the number of the token in it and `earlier` only: the ids of prompt and reply so
  // far, for penalties. Of tokens with a logit of -infinity none is taken. Allocates nothing.
  int32_t pick(std::span<const float> logits, uint64_t sequence, uint64_t token, std::span<const int32_t> earlier = {});

  bool greedy() const { return static_cast<float>(options_.temperature) == 0; }

 private:
  struct Candidate {
    float weight;  // exp((logit - largest) / temperature)
    int32_t id;
  };
  explicit Sampler(const SamplingOptions& options) : options_(options) {}
  bool penalises() const {
    return options_.repetition_penalty != 1 || options_.presence_penalty != 0 || options_.frequency_penalty != 0;
  }
  // The logits after the penalties.
  std::span<const float> penalised(std::span<const float> logits, std::span<const int32_t> earlier);
  void keep_likeliest();
  void keep_top_p();
  void keep_typical();

  SamplingOptions options_;
  std::vector<float> logits_;     // after penalties
  std::vector<uint32_t> counts_;  // of each token among the earlier ones; zero between calls
  std::vector<Candidate> candidates_;
};

int32_t likeliest(std::span<const float> logits);

}  // namespace thimble
