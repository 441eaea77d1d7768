// chat: a conversation on a terminal, or line by line from a pipe.

#include <unistd.h>

#include "commands/chat_session.h"
#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/inference_flags.h"
#include "report/events.h"
#include "run/conversation.h"
#include "run/interrupt.h"

namespace thimble {
namespace {

constexpr int64_t kContext = 2048;
constexpr int64_t kLeastContext = 256;

struct Flags {
  InferenceFlags inference;
  SamplingOptions sampling{.temperature = 0.2, .top_p = 0.9};
  ConversationOptions conversation;
  PromptCacheOptions cache;
  int64_t context = 0;
};

// The longest context of those tried that fits the budget; without a flag the budget decides.
Result<std::unique_ptr<Generator>> prepare(const Flags& flags, Inference& inference) {
  int64_t context = TRY(inference.context(flags.context));
  if (flags.context > 0) return Generator::prepare(inference, 1, context);
  for (context = std::min(context, kContext);; context /= 2) {
    auto generator = Generator::prepare(inference, 1, TRY(inference.context(context)));
    if (generator || generator.error().code != ErrorCode::over_budget || context / 2 < kLeastContext) return generator;
  }
}

Result<void> chat(Flags& flags) {
  auto inference = TRY(Inference::open(TRY(flags.inference.finish())));
  CHECK_OK(inference->tokenizer().usable());
  const std::shared_ptr<const ChatFormat> format = TRY(inference->chat_format());
  auto sampler = TRY(Sampler::create(flags.sampling, inference->architecture().vocab));
  if (flags.conversation.system.empty()) {
    flags.conversation.system = inference->system_prompt();
    if (!flags.conversation.system.empty())
      fmt::print(stderr, "system message, as the adapter was trained with: {}\n", flags.conversation.system);
  }
  const auto cache = TRY(PromptCache::open(flags.cache, *inference));
  flags.conversation.prompt_cache = cache.get();
  LineEditor lines;  // it is measured with the process
  auto generator = TRY(prepare(flags, *inference));
  fmt::print(stderr, "{}\n", inference->plan().ledger.text(terminal_columns(STDERR_FILENO)));
  if (flags.inference.plan_only()) return {};
  Conversation conversation(*generator, inference->tokenizer(), *format, sampler, flags.conversation);
  CHECK_OK(generator->load());
  if (lines.terminal())
    fmt::print(stderr,
               "context {} tokens. /help lists commands. Ctrl-C stops a reply; Ctrl-D, or Ctrl-C twice here, ends the "
               "chat.\n",
               generator->context());
  watch_interrupts();
  CHECK_OK(ChatSession(conversation, lines, inference->tokenizer(), generator->context()).run());
  const int64_t peak = peak_resident_bytes(), planned = inference->plan().ledger.planned_bytes;
  fmt::print(stderr, "peak memory {} = {:.1f} % of the plan\n", megabytes(peak),
             100.0 * static_cast<double>(peak) / static_cast<double>(planned));
  return {};
}

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<Flags>();
  flags->inference.add(command, true);
  add_sampling_flags(command, flags->sampling);
  add_prompt_cache_flags(command, flags->cache, false);
  command.add_text("--system", flags->conversation.system,
                   "system message; without it the one that the adapter was trained with, or the model's own");
  command.add("--max-tokens", flags->conversation.max_tokens, "tokens of a reply at most; 0: until it ends")
      .in_range(0, 1 << 20);
  command.add("--context", flags->context, "tokens of the conversation; up to 2048, as the budget allows, without it");
  return [flags, &command]() -> Result<void> {
    TRY(settle_sampling(command, flags->inference.model(), flags->sampling));
    CHECK_OK(check_prompt_cache(command, flags->cache, flags->inference));
    return chat(*flags);
  };
}

}  // namespace

const Command kChat = {"chat", "talk with a model", add, true};

}  // namespace thimble
