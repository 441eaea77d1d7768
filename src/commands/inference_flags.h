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

}  // namespace thimble
