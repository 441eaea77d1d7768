// Prompts, gone on from, as many at once as there are slots.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "run/generator.h"
#include "run/sampler.h"
#include "text/grammar/grammar.h"

namespace thimble {

// A chat without a system message has the one that the adapter was trained with.
Result<std::vector<int32_t>> encode_prompt(const Prompt& prompt, Inference& inference);

struct CompletionOptions {
  int64_t max_tokens = 256;
  int64_t max_length = 0;  // of prompt and reply together, in place of max_tokens; 0: not said
  // Tokens that may be made after a prompt of so many; 0: the prompt leaves no room.
  int64_t most_after(int64_t prompt) const {
    return max_length > 0 ? std::max<int64_t>(0, max_length - prompt) : max_tokens;
  }
  std::vector<std::string> stops;          // strings at which a reply ends, without them
  std::shared_ptr<const Grammar> grammar;  // the reply is held to it; nullptr: to nothing
  int64_t logprobs = -1;  // of how many likeliest tokens the log probability is kept, and of the one taken
};

// Natural logarithms of the probabilities that the model itself gives, before penalties and temperature.
struct TokenLogprobs {
  float taken = 0;
  std::vector<std::pair<int32_t, float>> top;  // the likeliest first
};

struct Completion {
  std::vector<int32_t> prompt_ids, ids;
  int64_t held = 0;  // of complete(): the first tokens of the prompt, not all of them, that slot 0 holds already
  std::string text;
  std::vector<TokenLogprobs> logprobs;  // of ids
  double prompt_seconds = 0;            // until the first token can be taken
  double seconds = 0;                   // from there on
  int64_t guessed = 0, right = 0;       // tokens that were guessed ahead, and those of them that were taken
  // Why there is no more: "end" (the model's own), "stop" (a string), "grammar" (nothing can
  // follow), "max-tokens" or "context" (it is full).
  const char* stopped = "";

  // Tokens a second, after the first, which the prompt gives; 0 where there is no other.
  double speed() const { return ids.size() < 2 ? 0 : static_cast<double>(ids.size() - 1) / std::max(1e-9, seconds); }
  int32_t end = -1;  // the token that ended it, where one did
  std::string stop;  // the string that ended it, where one did
};

// Goes on from completion.prompt_ids in slot 0, whatever that held beyond completion.held. `say` gets whole characters
// as they come.
Result<void> complete(Generator& generator, Sampler& sampler, const Inference& inference,
                      const CompletionOptions& options, const std::function<void(std::string_view)>& say,
                      Completion& completion);

// All of them, as many at once as there are slots; the number of a completion is the sampler's number of the sequence,
// so that none depends on what else is in the batch.
Result<void> complete_all(Generator& generator, Sampler& sampler, const Inference& inference,
                          const CompletionOptions& options, std::span<Completion> completions);

}  // namespace thimble
