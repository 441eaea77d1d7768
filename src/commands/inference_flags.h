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
  const std::string& model() const { return options_.model; }
  const std::string& adapter() const { return options_.adapter; }
  const std::string& tokenizer() const { return options_.tokenizer; }

 private:
  InferenceOptions options_;
  std::string memory_;
};

void add_sampling_flags(CLI::App& app, SamplingOptions& options);
// Of flags that greedy decoding does not look at.
void warn_of_greedy(const CLI::App& app, const SamplingOptions& options);

}  // namespace thimble
