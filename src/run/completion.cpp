#include "run/completion.h"

#include <algorithm>
#include <chrono>

#include "text/chat.h"
#include "text/token_stream.h"

namespace thimble {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Result<std::vector<int32_t>> encode_prompt(const Prompt& prompt, Inference& inference) {
  Tokenizer& tokenizer = inference.tokenizer();
  CHECK_OK(tokenizer.usable());
  std::vector<int32_t> ids;
  if (prompt.chat || !prompt.system.empty()) {
    std::vector<Message> messages;
    const std::string system = prompt.system.empty() ? inference.system_prompt() : prompt.system;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", prompt.text});
    std::vector<uint8_t> trained;
    const std::shared_ptr<const ChatFormat> format = TRY(inference.chat_format());
    CHECK_OK(encode_chat(*format, tokenizer, messages, {.generation_prompt = true}, ids, trained));
  } else {
    CHECK_OK(tokenizer.encode(prompt.text, {.bos = tokenizer.begins_with_bos(prompt.bos, inference.no_bos())}, ids));
  }
  if (ids.empty())
    return fail(ErrorCode::invalid_argument,
                "the prompt is empty: give --prompt TEXT or --prompt-file FILE, or --bos to begin from nothing");
  return ids;
}

Result<void> complete(Generator& generator, Sampler& sampler, const Inference& inference, int64_t max_tokens,
                      const std::function<void(std::string_view)>& say, Completion& completion) {
  const std::vector<int32_t>& stops = inference.ends();
  TokenStream stream(inference.tokenizer(), completion.prompt_ids);
  const auto tell = [&](std::string_view text) {
    completion.text += text;
    if (say && !text.empty()) say(text);
  };
  auto start = std::chrono::steady_clock::now();
  generator.truncate(0, 0);
  const Generator::Prompt prompt{0, completion.prompt_ids};
  CHECK_OK(generator.prefill({&prompt, 1}));
  completion.prompt_seconds = seconds_since(start);
  start = std::chrono::steady_clock::now();
  while (!*completion.stopped) {
    const int32_t id = sampler.pick(generator.logits(0), 0, completion.ids.size());
    completion.ids.push_back(id);
    const bool end = std::find(stops.begin(), stops.end(), id) != stops.end();
    if (!end) tell(stream.push(id));
    if (end) {
      completion.stopped = "end";
      completion.end = id;
    } else if (static_cast<int64_t>(completion.ids.size()) == max_tokens) {
      completion.stopped = "max-tokens";
    } else if (generator.length(0) == generator.context()) {
      completion.stopped = "context";
    } else {
      const Generator::Token token{0, id};
      CHECK_OK(generator.step({&token, 1}));
    }
  }
  tell(stream.rest());
  completion.seconds = seconds_since(start);
  return {};
}

}  // namespace thimble
