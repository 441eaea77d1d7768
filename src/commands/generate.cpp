// generate: goes on from a prompt.
#include <unistd.h>

#include <algorithm>

#include "commands/command.h"
#include "commands/inference_flags.h"
#include "core/count.h"
#include "files/file_kind.h"
#include "run/completion.h"
#include "text/json_output.h"

namespace thimble {
namespace {

struct Flags {
  InferenceFlags inference;
  SamplingOptions sampling;
  Prompt prompt;
  std::string prompt_file;
  int64_t max_tokens = 256, context = 0;
  bool json = false;
};

// The tokens of prompt and reply, or what the user or the model allows.
Result<int64_t> planned_context(const Flags& flags, const Inference& inference, int64_t prompt) {
  const int64_t most = TRY(inference.context(flags.context));
  if (prompt >= most)
    return fail(ErrorCode::invalid_argument,
                "the prompt has {}, the context is {}: shorten it, or give a larger --context",
                counted(prompt, "token"), most);
  return flags.context > 0 ? most : std::min(most, prompt + flags.max_tokens);
}

// A prompt that can not fit the context is not read: reading and cutting it into tokens takes memory that no plan has.
Result<std::string> read_prompt(const Flags& flags, const Inference& inference) {
  const auto most = static_cast<uint64_t>(TRY(inference.context(flags.context)));
  const uint64_t bytes = TRY(InputFile::open(flags.prompt_file)).size();
  const uint64_t longest = inference.tokenizer().most_bytes_per_token();
  if (longest > 0 && bytes / longest > most)
    return fail(
        ErrorCode::invalid_argument,
        "--prompt-file {}: its {} bytes are more than {} tokens, the context is {}: shorten it, or give a larger "
        "--context",
        flags.prompt_file, bytes, bytes / longest, most);
  return read_utf8_file(flags.prompt_file);
}

void report(const Flags& flags, const Tokenizer& tokenizer, const Completion& o, int64_t context,
            int64_t planned_bytes) {
  const double speed = static_cast<double>(o.ids.size()) / std::max(1e-9, o.seconds);
  const double prompt_speed = static_cast<double>(o.prompt_ids.size()) / std::max(1e-9, o.prompt_seconds);
  const int64_t peak = peak_resident_bytes();
  if (flags.json) {
    fmt::print(
        "{{\"text\":{},\"ids\":[{}],\"prompt_ids\":[{}],\"stopped\":\"{}\"{},\"tokens_per_second\":{:.6g},\"prompt_"
        "tokens_per_second\":{:."
        "6g},\"peak_rss_bytes\":{},\"planned_peak_bytes\":{}}}\n",
        json_string(o.text), fmt::join(o.ids, ","), fmt::join(o.prompt_ids, ","), o.stopped,
        o.end < 0 ? "" : fmt::format(",\"end\":{{\"id\":{},\"token\":{}}}", o.end, json_string(tokenizer.bytes(o.end))),
        speed, prompt_speed, peak, planned_bytes);
    return;
  }
  if (isatty(STDOUT_FILENO)) std::fputs("\n", stdout);
  if (o.stopped == std::string_view("context"))
    fmt::print(stderr, "\nThe context of {} tokens is full: the text ends here, before --max-tokens.", context);
  fmt::print(stderr, "\n{} of prompt ({:.0f} tok/s), {} made ({:.1f} tok/s); peak memory {} = {:.1f} % of the plan\n",
             counted(o.prompt_ids.size(), "token"), prompt_speed, o.ids.size(), speed, megabytes(peak),
             100.0 * static_cast<double>(peak) / static_cast<double>(planned_bytes));
}

Result<void> generate(Flags& flags) {
  if (flags.max_tokens < 1 || flags.max_tokens > (1 << 20))
    return fail(ErrorCode::invalid_argument, "--max-tokens: expected 1 to {}, found {}", 1 << 20, flags.max_tokens);
  auto inference = TRY(Inference::open(TRY(flags.inference.finish())));
  if (!flags.prompt_file.empty()) flags.prompt.text = TRY(read_prompt(flags, *inference));
  Completion outcome;
  outcome.prompt_ids = TRY(encode_prompt(flags.prompt, *inference));
  const int64_t context = TRY(planned_context(flags, *inference, static_cast<int64_t>(outcome.prompt_ids.size())));
  auto sampler = TRY(Sampler::create(flags.sampling, inference->architecture().vocab));
  outcome.ids.reserve(static_cast<size_t>(flags.max_tokens));
  auto generator = TRY(Generator::prepare(*inference, 1, context));
  if (!flags.json) fmt::print(stderr, "{}\n", inference->plan().ledger.text());
  CHECK_OK(generator->load());
  const auto say = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  CHECK_OK(complete(*generator, sampler, *inference, flags.max_tokens,
                    flags.json ? std::function<void(std::string_view)>() : say, outcome));
  report(flags, inference->tokenizer(), outcome, generator->context(), inference->plan().ledger.planned_bytes);
  return {};
}

std::function<Result<void>()> add(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  flags->inference.add(app);
  add_sampling_flags(app, flags->sampling);
  auto* const prompt =
      app.add_option("--prompt", flags->prompt.text, "text to go on from; special tokens in it are such");
  app.add_option("--prompt-file", flags->prompt_file, "a file with the prompt")->excludes(prompt);
  app.add_flag("--chat", flags->prompt.chat, "the prompt is a user's message: format it as the model's chat does");
  app.add_option("--system", flags->prompt.system, "system message; implies --chat");
  app.add_option("--max-tokens", flags->max_tokens, "tokens to make at most")->capture_default_str();
  app.add_option("--context", flags->context, "tokens of prompt and reply; as many as needed without it");
  app.add_flag("--bos", flags->prompt.bos, "begin with the beginning-of-sequence token, whatever the tokenizer says");
  app.add_flag("--json", flags->json, "one JSON object");
  return [flags, &app]() -> Result<void> {
    warn_of_greedy(app, flags->sampling);
    return generate(*flags);
  };
}

}  // namespace

const Command kGenerate = {"generate", "go on from a prompt", add, true};

}  // namespace thimble
