// Flags that generate, chat and eval share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "run/inference.h"
#include "run/sampler.h"

namespace thimble {

class InferenceFlags {
 public:
  void add(CLI::App& app);
  Result<InferenceOptions> finish();

 private:
  InferenceOptions options_;
  std::string memory_;
};

void add_sampling_flags(CLI::App& app, SamplingOptions& options);

// Tokens after which a sequence is over: the tokenizer's end, and the ends of a turn when the chat format is known.
std::vector<int32_t> stop_tokens(const Tokenizer& tokenizer);

}  // namespace thimble
