// Which token comes next, given logits.
//
//   temperature  logits are divided by it; 0 takes the largest logit, the first of equals
//   top_k        only the k largest; 0: all
//   top_p        of these, the fewest that together have probability p (nucleus sampling, Holtzman et al. 2019,
//                arXiv:1904.09751)
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/result.h"

namespace thimble {

struct SamplingOptions {
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1;
  uint64_t seed = 0;
};

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
