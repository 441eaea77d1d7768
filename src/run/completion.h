// A prompt, gone on from in one slot.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "run/generator.h"
#include "run/sampler.h"

namespace thimble {

// A chat without a system message has the one that the adapter was trained with.
Result<std::vector<int32_t>> encode_prompt(const Prompt& prompt, Inference& inference);

struct Completion {
  std::vector<int32_t> prompt_ids, ids;
  std::string text;
  double prompt_seconds = 0, seconds = 0;
  const char* stopped = "";  // why there is no more: "end" (the model's own), "max-tokens" or "context" (it is full)
  int32_t end = -1;          // the token that ended it, where one did
};

// Goes on from completion.prompt_ids in slot 0, whatever that held. `say` gets whole characters as they come.
Result<void> complete(Generator& generator, Sampler& sampler, const Inference& inference, int64_t max_tokens,
                      const std::function<void(std::string_view)>& say, Completion& completion);

}  // namespace thimble
