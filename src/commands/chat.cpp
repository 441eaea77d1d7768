// chat: a conversation on a terminal, or line by line from a pipe.
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "commands/command.h"
#include "commands/inference_flags.h"
#include "run/conversation.h"
#include "run/interrupt.h"

namespace thimble {
namespace {

constexpr int64_t kContext = 2048;
constexpr int64_t kLeastContext = 256;
constexpr size_t kLongestLine = 1 << 20;

struct Flags {
  InferenceFlags inference;
  SamplingOptions sampling{.temperature = 0.2, .top_p = 0.9};
  ConversationOptions conversation;
  int64_t context = 0;
};

// Lines of the standard input. A first interrupt while waiting says how to leave; a second one leaves (interrupt.h).
class Lines {
 public:
  explicit Lines(std::string prompt) : prompt_(std::move(prompt)) {}

  std::optional<std::string> next() {
    fmt::print(stderr, "{}", prompt_);
    told_ = false;
    clear_interrupts();
    for (;;) {
      const size_t end = buffer_.find('\n');
      if (end != std::string::npos || (over_ && !buffer_.empty())) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end == std::string::npos ? buffer_.size() : end + 1);
        if (line.ends_with('\r')) line.pop_back();
        clear_interrupts();
        return line;
      }
      if (over_) return std::nullopt;
      if (interrupted() && !std::exchange(told_, true))
        fmt::print(stderr, "\n(no reply is being made; Ctrl-D ends the chat, and so does Ctrl-C once more)\n{}",
                   prompt_);
      char bytes[4096];
      const ssize_t count = read(STDIN_FILENO, bytes, sizeof bytes);
      over_ = count == 0 || (count < 0 && errno != EINTR) || buffer_.size() > kLongestLine;
      if (count > 0) buffer_.append(bytes, static_cast<size_t>(count));
    }
  }

 private:
  std::string prompt_, buffer_;
  bool over_ = false;
  bool told_ = false;  // how to leave
};

// The longest context of those tried that fits the budget; without a flag the budget decides.
Result<std::unique_ptr<Generator>> prepare(const Flags& flags, Inference& inference) {
  int64_t context = TRY(inference.context(flags.context));
  if (flags.context > 0) return Generator::prepare(inference, 1, context);
  for (context = std::min(context, kContext);; context /= 2) {
    auto generator = Generator::prepare(inference, 1, context);
    if (generator || generator.error().code != ErrorCode::over_budget || context / 2 < kLeastContext) return generator;
  }
}

// A line whose tokens can not fit is not cut into tokens first, which takes memory that no plan has.
Result<void> check_length(std::string_view line, size_t most_per_token, int64_t context) {
  if (most_per_token == 0 || line.size() / most_per_token <= static_cast<size_t>(context)) return {};
  return fail(ErrorCode::invalid_argument, "the message has {} bytes, more than the context of {} tokens holds",
              line.size(), context);
}

Result<void> talk(Conversation& conversation, const Tokenizer& tokenizer, int64_t context, bool terminal) {
  const Conversation::Listener listener{
      .say =
          [](std::string_view text) {
            std::fwrite(text.data(), 1, text.size(), stdout);
            std::fflush(stdout);
          },
      .note = [](std::string_view note) { fmt::print(stderr, "\n({})\n", note); },
      .stop = interrupted,
  };
  Lines lines(terminal ? "> " : "");
  for (;;) {
    const auto line = lines.next();
    if (!line) break;
    if (line->find_first_not_of(" \t") == std::string::npos) continue;
    auto result = check_length(*line, tokenizer.most_bytes_per_token(), context);
    if (result) result = conversation.reply(*line, listener);
    if (!result && result.error().code != ErrorCode::invalid_argument) return Failure(result.error());
    if (!result) fmt::print(stderr, "({})", result.error().message);
    std::fputs("\n", stdout);
    std::fflush(stdout);
  }
  if (terminal) fmt::print(stderr, "\n");
  return {};
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
  auto generator = TRY(prepare(flags, *inference));
  fmt::print(stderr, "{}\n", inference->plan().ledger.text());
  Conversation conversation(*generator, inference->tokenizer(), *format, sampler, flags.conversation);
  CHECK_OK(generator->load());
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal)
    fmt::print(stderr, "context {} tokens. Ctrl-C stops a reply; Ctrl-D, or Ctrl-C twice here, ends the chat.\n",
               generator->context());
  watch_interrupts();
  CHECK_OK(talk(conversation, inference->tokenizer(), generator->context(), terminal));
  const int64_t peak = peak_resident_bytes(), planned = inference->plan().ledger.planned_bytes;
  fmt::print(stderr, "peak memory {} = {:.1f} % of the plan\n", megabytes(peak),
             100.0 * static_cast<double>(peak) / static_cast<double>(planned));
  return {};
}

std::function<Result<void>()> add(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  flags->inference.add(app);
  add_sampling_flags(app, flags->sampling);
  app.add_option("--system", flags->conversation.system,
                 "system message; without it the one that the adapter was trained with, or the model's own");
  app.add_option("--max-tokens", flags->conversation.max_tokens, "tokens of a reply at most; 0: until it ends")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--context", flags->context,
                 "tokens of the conversation; up to 2048, as the budget allows, without it");
  return [flags, &app]() -> Result<void> {
    TRY(settle_sampling(app, flags->inference.model(), flags->sampling));
    return chat(*flags);
  };
}

}  // namespace

const Command kChat = {"chat", "talk with a model", add, true};

}  // namespace thimble
