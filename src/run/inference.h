// A model opened for inference, planned within a budget, and its programs ready to run. Generator and Evaluator stand
// on it.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "methods/decoder.h"
#include "models/model_source.h"
#include "plan/inference.h"
#include "run/arena.h"
#include "run/executor.h"
#include "run/values.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "thimble/options.h"

namespace thimble {

class Inference {
 public:
  // Opens and checks files. Nothing large exists yet.
  static Result<std::unique_ptr<Inference>> open(const InferenceOptions& options);

  Tokenizer& tokenizer() { return *tokenizer_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  // How chats are formatted; an error where the model has no template and none was given.
  const Result<std::shared_ptr<const ChatFormat>>& chat_format() const { return chat_; }
  // Which template that is, for data sets.
  const ModelTemplateOptions& template_options() const { return template_; }
  bool no_bos() const { return options_.no_bos; }
  // Tokens after which a text is over: the tokenizer's, and the template's of a reply.
  const std::vector<int32_t>& ends() const { return chat_ ? (*chat_)->ends() : tokenizer_->ends(); }
  const Architecture& architecture() const { return spec_.architecture; }
  // What the chats opened with that the adapter was trained on; "" where that is not known.
  std::string system_prompt() const { return adapters_.empty() ? "" : adapters_.front().system_prompt; }
  // Tokens of the longest sequence that the model was made for, or `asked` (2 or more) when that is not 0; refuses more
  // positions than a model has learned, and less than the cache's policy needs.
  Result<int64_t> context(int64_t asked) const;
  Lead lead() const { return lead_of(spec_.rewrites); }  // of an adapter

  // What the caller will hold while it runs must exist by now: it is measured with the process.
  //   batch: sequences at once (generate), or windows of `context` rows at once, at most
  Result<void> plan(Task task, int64_t context, int64_t batch);
  const InferencePlan& plan() const { return plan_; }
  const InferenceSpec& spec() const { return spec_; }

  // Takes the arena and reads the weights.
  Result<void> load();

  // Inputs and results of the programs, by full name.
  template <class T>
  T* value(const std::string& name) {
    return reinterpret_cast<T*>(arena_->data() + plan_.layout.find(name)->offset);
  }
  // All of them, wherever they live; what of the arena no program is using meanwhile is staging memory.
  Values values();
  Result<void> run(size_t program, int64_t tokens, int64_t selected);
  // The first `rows` rows of logits of what was run last; refuses what is not finite.
  Result<std::span<const float>> logits(int64_t rows);
  // How tokens are guessed ahead.
  const Decoder& decoder() const { return *decoder_; }
  const OptionValues& decoder_options() const { return decoder_values_; }
  // What stays in a cache that is full.
  const CachePolicy& cache_policy() const { return *spec_.policy; }
  const OptionValues& cache_options() const { return cache_values_; }

 private:
  explicit Inference(const InferenceOptions& options) : options_(options) {}
  Result<void> open_adapter_stack();
  Result<void> open_decoder();
  void plan_guesses(Task task, int64_t slots);
  std::string scratch_folder() const;  // on a disk: the user's cache folder where no other was named

  InferenceOptions options_;
  std::unique_ptr<Threads> threads_;
  std::unique_ptr<ModelSource> source_;
  std::unique_ptr<Tokenizer> tokenizer_;
  ModelTemplateOptions template_;
  Result<std::shared_ptr<const ChatFormat>> chat_;
  std::vector<Adapter> adapters_;
  const Decoder* decoder_ = &kPlainDecoder;
  OptionValues decoder_values_, cache_values_;
  InferenceSpec spec_;
  HeapHoles holes_;  // as long as a plan is carried out
  InferencePlan plan_;
  std::optional<Machine> machine_;  // once it was asked for
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Scratch> scratch_;
  std::vector<Executor> executors_;
};

}  // namespace thimble
