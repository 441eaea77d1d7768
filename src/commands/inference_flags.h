// Flags that generate, chat and eval share.
#pragma once

#include <string>

#include "run/generation_config.h"
#include "run/inference.h"
#include "run/prompt_cache.h"
#include "run/sampler.h"

namespace thimble {

class FlagSet;

class InferenceFlags {
 public:
  void add(FlagSet& command, bool decodes = false);  // decodes: tokens are made one after another
  Result<InferenceOptions> finish();
  const std::string& model() const { return options_.model; }
  const std::string& adapter() const { return options_.adapter; }
  const std::string& tokenizer() const { return options_.tokenizer; }
  bool no_bos() const { return options_.no_bos; }
  bool plan_only() const { return plan_only_; }

 private:
  InferenceOptions options_;
  std::string memory_;
  bool plan_only_ = false;
};

// all: replies may be kept, too.
void add_prompt_cache_flags(FlagSet& command, PromptCacheOptions& options, bool all);
// Flags without effect, and a file that is read as something else.
Result<void> check_prompt_cache(const FlagSet& command, const PromptCacheOptions& options, const InferenceFlags& flags,
                                const std::string& prompt_file = "");
void add_sampling_flags(FlagSet& command, SamplingOptions& options);
// Once the model is known: what its generation_config.json says goes where no flag was given, and is told; a seed that
// was not given is drawn; flags that greedy decoding does not look at are warned of.
Result<GenerationConfig> settle_sampling(const FlagSet& command, const std::string& model, SamplingOptions& options);

}  // namespace thimble
