// Llama 3's rope scaling as GGUF stores it: a divisor for every frequency, where Hugging Face has four numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/architecture.h"

namespace thimble {

// [head_dim / 2] divisors; Grattafiori et al. 2024 (arXiv:2407.21783) as published in Meta's code.
std::vector<float> llama3_rope_factors(const RopeScaling& scaling, double rope_base, int64_t head_dim);

// The scaling that gives these divisors (`none` when all are 1), or nothing when no usual one does.
std::optional<RopeScaling> recognise_rope_factors(std::span<const float> factors, double rope_base);

}  // namespace thimble
