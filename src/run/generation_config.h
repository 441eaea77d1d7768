// generation_config.json beside a model: how its makers mean it to generate, as transformers reads it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "files/field_notes.h"
#include "thimble/options.h"

namespace thimble {

struct GenerationConfig {
  bool do_sample = false;
  std::optional<double> temperature, top_p, min_p, typical_p, repetition_penalty;
  std::optional<int64_t> top_k, max_new_tokens;
  std::optional<int64_t> max_length;  // of prompt and reply together, where max_new_tokens is not set
  std::vector<std::string> stop_strings;
};

// Of a model's folder; without the file, or of a model that is a file, nothing is set. What the file asks for and
// thimble does not do is warned of by name.
Result<GenerationConfig> read_generation_config(const std::string& model);

// What becomes of each field of transformers' GenerationConfig.
std::span<const FieldNote> generation_fields();

// Which settings the user gave; they go before the file's.
struct GivenSampling {
  bool temperature = false, top_k = false, top_p = false, min_p = false, typical_p = false, repetition_penalty = false;
};
// Takes what the file says into `sampling`, and tells it: "temperature 0.6, top-k 20", or "" where it says nothing.
// Tokens are sampled where the user gave a temperature above 0, or gave none and the file has do_sample; as in
// transformers a missing temperature is 1 then, and a missing top_k 50.
std::string apply(const GenerationConfig& config, const GivenSampling& given, SamplingOptions& sampling);

}  // namespace thimble
