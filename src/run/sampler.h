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

  // Depends on the seed, the sequence and the number of the token in it only. Allocates nothing.
  int32_t pick(std::span<const float> logits, uint64_t sequence, uint64_t token);

 private:
  struct Candidate {
    float weight;  // exp((logit - largest) / temperature)
    int32_t id;
  };
  explicit Sampler(const SamplingOptions& options) : options_(options) {}
  void keep_likeliest();

  SamplingOptions options_;
  std::vector<Candidate> candidates_;
};

int32_t likeliest(std::span<const float> logits);

}  // namespace thimble
