// thimble as a library: language models fine-tuned and run within a stated number of bytes. Link the target
// `libthimble`.
//
// As in the program, everything is planned before it runs: `plan` and `open` say what would not fit, with the smallest
// budget that would, and what runs afterwards stays within its ledger. A budget bounds the peak resident memory of the
// whole process, so what the caller holds counts too, and so does what an earlier object took: to run a model in 150 MB
// after a fine-tuning in 300 MB takes another process. The process gets one malloc arena. Objects are for one thread at
// a time; they use threads of their own.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "thimble/events.h"
#include "thimble/ledger.h"
#include "thimble/options.h"
#include "thimble/recipe.h"
#include "thimble/result.h"

namespace thimble {

// A training run that is planned and not yet begun: nothing large exists before run().
class FineTuning {
 public:
  static Result<FineTuning> plan(const Recipe& recipe);

  const Ledger& ledger() const;
  // What a user should hear of: how many examples there are, and what was left out.
  const std::vector<std::string>& notes() const;

  // Asked after every step; false stops the run.
  using OnStep = std::function<bool(const StepEvent&)>;

  // Trains, and leaves model or adapter, checkpoint and report in recipe.out. A run that was stopped is saved, and its
  // error is `cancelled`: the same recipe with `resume` goes on.
  Result<void> run(const OnStep& on_step = {});

  FineTuning(FineTuning&&) noexcept;
  ~FineTuning();

 private:
  struct Run;
  explicit FineTuning(std::unique_ptr<Run> run);
  std::unique_ptr<Run> run_;
};

// A model in memory, with room for one sequence of at most `context` tokens.
class Model {
 public:
  static Result<Model> open(const InferenceOptions& options, int64_t context = 512,
                            const SamplingOptions& sampling = {});

  const Ledger& ledger() const;

  // What follows the prompt, to the model's own end, `max_tokens`, or the end of the context. `say` gets it as it
  // comes, in whole characters.
  Result<std::string> generate(const Prompt& prompt, int64_t max_tokens = 256,
                               const std::function<void(std::string_view)>& say = {});

  Model(Model&&) noexcept;
  ~Model();

 private:
  struct Session;
  explicit Model(std::unique_ptr<Session> session);
  std::unique_ptr<Session> session_;
};

// How likely a model finds the examples of a file (JSONL of chats, or plain text in windows of `context` tokens).
Result<Score> evaluate(const InferenceOptions& options, const std::string& data, int64_t context = 512);

// The version of the library: "0.1.0".
std::string_view version();

}  // namespace thimble
