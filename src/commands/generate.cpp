// generate: goes on from a prompt, or from several.
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/inference_flags.h"
#include "commands/prompt_file.h"
#include "commands/void_flags.h"
#include "core/count.h"
#include "core/printable.h"
#include "core/warnings.h"
#include "files/file_kind.h"
#include "report/events.h"
#include "run/completion.h"
#include "run/setup.h"
#include "text/grammar/json_schema.h"
#include "text/json_output.h"

namespace thimble {
namespace {

struct Flags {
  InferenceFlags inference;
  SamplingOptions sampling;
  CompletionOptions completion;
  PromptCacheOptions cache;
  Prompt prompt;
  std::string prompt_file, prompts, grammar, json_schema;
  int64_t context = 0, batch = 0;
  bool json = false;
};

// The tokens of prompt and reply, or what the user or the model allows.
Result<int64_t> planned_context(const Flags& flags, const Inference& inference, int64_t prompt) {
  const int64_t most = TRY(inference.context(flags.context));
  const bool forgets = inference.cache_policy().keep != nullptr;
  if (prompt >= most && !forgets)
    return fail(ErrorCode::invalid_argument,
                "the prompt has {}, the context is {}: shorten it, or give a larger --context",
                counted(prompt, "token"), most);
  const int64_t reply = flags.completion.most_after(prompt);
  if (reply == 0)
    return fail(ErrorCode::invalid_argument,
                "the prompt has {}, and generation_config.json sets max_length, prompt and reply together, to {}: give "
                "--max-tokens",
                counted(prompt, "token"), flags.completion.max_length);
  return flags.context > 0 ? most : std::min(most, prompt + reply);
}

// A prompt that cannot fit the context is not read: reading and cutting it into tokens takes memory that no plan has.
Result<std::string> read_prompt(const Flags& flags, const Inference& inference) {
  const auto most = static_cast<uint64_t>(TRY(inference.context(flags.context)));
  const uint64_t bytes = TRY(InputFile::open(flags.prompt_file)).size();
  const uint64_t longest = inference.tokenizer().most_bytes_per_token();
  const bool forgets = inference.cache_policy().keep != nullptr;
  if (longest > 0 && bytes / longest > most && !forgets)
    return fail(
        ErrorCode::invalid_argument,
        "--prompt-file {}: its {} bytes are more than {} tokens, the context is {}: shorten it, or give a larger "
        "--context",
        flags.prompt_file, bytes, bytes / longest, most);
  return read_utf8_file(flags.prompt_file);
}

std::string logprobs_json(const Tokenizer& tokenizer, const Completion& o) {
  std::string list;
  const auto token = [&](int32_t id, float logprob) {
    return fmt::format("\"id\":{},\"token\":{},\"logprob\":{:.6g}", id, json_string(tokenizer.bytes(id)), logprob);
  };
  for (size_t i = 0; i < o.logprobs.size(); ++i) {
    std::string top;
    for (const auto& [id, logprob] : o.logprobs[i].top)
      top += fmt::format("{}{{{}}}", top.empty() ? "" : ",", token(id, logprob));
    list += fmt::format("{}{{{},\"top\":[{}]}}", i == 0 ? "" : ",", token(o.ids[i], o.logprobs[i].taken), top);
  }
  return list;
}

// Without the braces: the text, why it ended, and what it was made of.
std::string completion_json(const Flags& flags, const Tokenizer& tokenizer, const Completion& o) {
  std::string json = fmt::format("\"text\":{},\"ids\":[{}],\"prompt_ids\":[{}],\"stopped\":\"{}\"", json_string(o.text),
                                 fmt::join(o.ids, ","), fmt::join(o.prompt_ids, ","), o.stopped);
  if (o.end >= 0)
    json += fmt::format(",\"end\":{{\"id\":{},\"token\":{}}}", o.end, json_string(tokenizer.bytes(o.end)));
  if (!o.stop.empty()) json += fmt::format(",\"stop\":{}", json_string(o.stop));
  if (flags.sampling.temperature > 0) json += fmt::format(",\"seed\":{}", flags.sampling.seed);
  if (o.guessed > 0) json += fmt::format(",\"guessed\":{},\"guessed_right\":{}", o.guessed, o.right);
  if (flags.completion.logprobs >= 0) json += fmt::format(",\"logprobs\":[{}]", logprobs_json(tokenizer, o));
  return json;
}

// from_file: tokens of the prompt that the prompt cache had.
void report(const Flags& flags, const Tokenizer& tokenizer, const Completion& o, int64_t from_file, int64_t context,
            int64_t planned_bytes) {
  const double speed = o.speed();
  const double computed = static_cast<double>(o.prompt_ids.size()) - static_cast<double>(from_file);
  const double prompt_speed = computed / std::max(1e-9, o.prompt_seconds);
  const int64_t peak = peak_resident_bytes();
  if (flags.json) {
    fmt::print(
        "{{{}{},\"tokens_per_second\":{:.6g},\"prompt_tokens_per_second\":{:.6g},\"peak_rss_bytes\":{},"
        "\"planned_peak_bytes\":{}}}\n",
        completion_json(flags, tokenizer, o),
        flags.cache.file.empty() ? "" : fmt::format(",\"prompt_tokens_from_cache\":{}", from_file), speed, prompt_speed,
        peak, planned_bytes);
    return;
  }
  if (isatty(STDOUT_FILENO)) std::fputs("\n", stdout);
  if (o.stopped == std::string_view("context"))
    fmt::print(stderr, "\nThe context of {} tokens is full: the text ends here, before --max-tokens.", context);
  if (!o.stop.empty()) fmt::print(stderr, "\nThe text ends before {}.", json_string(o.stop));
  if (flags.sampling.temperature > 0) fmt::print(stderr, "\nseed {}", flags.sampling.seed);
  if (o.guessed > 0) fmt::print(stderr, "\n{} guessed ahead, {} of them right", counted(o.guessed, "token"), o.right);
  if (!flags.cache.file.empty())
    fmt::print(stderr, "\n{} of the prompt read from {}", counted(from_file, "token"), printable(flags.cache.file));
  fmt::print(stderr, "\n{} of prompt ({:.0f} tok/s), {} made ({:.1f} tok/s); peak memory {} = {:.1f} % of the plan\n",
             counted(o.prompt_ids.size(), "token"), prompt_speed, o.ids.size(), speed, megabytes(peak),
             100.0 * static_cast<double>(peak) / static_cast<double>(planned_bytes));
}

Result<std::vector<int32_t>> encode(const FilePrompt& prompt, Inference& inference) {
  if (prompt.messages.empty()) return encode_prompt(prompt.prompt, inference);
  std::vector<int32_t> ids;
  std::vector<uint8_t> trained;
  const std::shared_ptr<const ChatFormat> format = TRY(inference.chat_format());
  std::vector<Message> messages = prompt.messages;
  for (Message& message : messages) message.role = std::string(format->role_of(message.role));
  CHECK_OK(encode_chat(*format, inference.tokenizer(), messages, {.generation_prompt = true}, ids, trained));
  return ids;
}

// All prompts of a file in batches; one JSON object a line, in their order.
Result<void> generate_many(Flags& flags, Inference& inference, Sampler& sampler) {
  const std::vector<FilePrompt> prompts = TRY(read_prompts(flags.prompts, flags.prompt));
  std::vector<Completion> completions(prompts.size());
  int64_t context = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto ids = encode(prompts[i], inference);
    if (!ids) return fail(ids.error().code, "{}, prompt {}: {}", flags.prompts, prompts[i].id, ids.error().message);
    completions[i].prompt_ids = std::move(*ids);
    const auto length = static_cast<int64_t>(completions[i].prompt_ids.size());
    const auto fits = planned_context(flags, inference, length);
    if (!fits) return fail(fits.error().code, "{}, prompt {}: {}", flags.prompts, prompts[i].id, fits.error().message);
    context = std::max(context, *fits);
  }
  const auto count = static_cast<int64_t>(prompts.size());
  const int64_t slots = flags.batch > 0 ? std::min(flags.batch, count) : std::min<int64_t>(count, 8);
  auto generator = TRY(Generator::prepare(inference, slots, context));
  fmt::print(stderr, "{}\n", inference.plan().ledger.text(terminal_columns(STDERR_FILENO)));
  if (flags.inference.plan_only()) return {};
  CHECK_OK(generator->load());
  CHECK_OK(complete_all(*generator, sampler, inference, flags.completion, completions));
  for (size_t i = 0; i < prompts.size(); ++i)
    fmt::print("{{\"id\":{},{}}}\n", prompts[i].id, completion_json(flags, inference.tokenizer(), completions[i]));
  return {};
}

// --grammar FILE, or --json-schema, which is a file or the schema itself.
Result<void> read_grammar(Flags& flags) {
  if (flags.grammar.empty() && flags.json_schema.empty()) return {};
  std::string gbnf;
  if (!flags.grammar.empty()) {
    gbnf = TRY(read_utf8_file(flags.grammar));
  } else {
    const bool inline_schema = flags.json_schema.find_first_of("{\n") != std::string::npos;
    gbnf = TRY(gbnf_of_json_schema(inline_schema ? flags.json_schema : TRY(read_utf8_file(flags.json_schema))));
  }
  flags.completion.grammar = std::make_shared<const Grammar>(TRY(Grammar::parse(gbnf)));
  return {};
}

Result<void> check(const Flags& flags) {
  const CompletionOptions& o = flags.completion;
  if (o.max_length < 0 || o.max_length > (1 << 30))
    return fail(ErrorCode::corrupt, "generation_config.json: expected a max_length of 1 to {}, found {}", 1 << 30,
                o.max_length);
  if (o.max_tokens < 1 || o.max_tokens > (1 << 20))
    return fail(ErrorCode::invalid_argument, "--max-tokens: expected 1 to {}, found {}", 1 << 20, o.max_tokens);
  for (const std::string& stop : o.stops)
    if (stop.empty()) return fail(ErrorCode::invalid_argument, "--stop: expected some text, found none");
  return {};
}

Result<void> generate(Flags& flags) {
  CHECK_OK(check(flags));
  CHECK_OK(read_grammar(flags));
  auto inference = TRY(Inference::open(TRY(flags.inference.finish())));
  CHECK_OK(check_bos(flags.prompt.bos, inference->tokenizer()));
  auto sampler = TRY(Sampler::create(flags.sampling, inference->architecture().vocab));
  if (!flags.prompts.empty()) return generate_many(flags, *inference, sampler);
  if (!flags.prompt_file.empty()) flags.prompt.text = TRY(read_prompt(flags, *inference));
  Completion outcome;
  outcome.prompt_ids = TRY(encode_prompt(flags.prompt, *inference));
  const auto prompt = static_cast<int64_t>(outcome.prompt_ids.size());
  const int64_t context = TRY(planned_context(flags, *inference, prompt));
  const auto cache = TRY(PromptCache::open(flags.cache, *inference));
  auto generator = TRY(Generator::prepare(*inference, 1, context));
  if (!flags.json || flags.inference.plan_only())
    fmt::print(stderr, "{}\n", inference->plan().ledger.text(terminal_columns(STDERR_FILENO)));
  if (flags.inference.plan_only()) return {};
  CHECK_OK(generator->load());
  const auto say = [](std::string_view text) {
    print_text(text);
    std::fflush(stdout);
  };
  int64_t from_file = 0;
  const auto start = std::chrono::steady_clock::now();
  if (cache) {
    from_file = TRY(cache->begin(*generator, outcome.prompt_ids));
    outcome.held = prompt - 1;
  }
  const double held_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  CHECK_OK(complete(*generator, sampler, *inference, flags.completion,
                    flags.json ? std::function<void(std::string_view)>() : say, outcome));
  outcome.prompt_seconds += held_seconds;
  if (cache) {
    std::vector<int32_t> all = outcome.prompt_ids;
    all.insert(all.end(), outcome.ids.begin(), outcome.ids.end());
    CHECK_OK(cache->end(*generator, all, prompt));
  }
  report(flags, inference->tokenizer(), outcome, from_file, generator->context(),
         inference->plan().ledger.planned_bytes);
  return {};
}

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<Flags>();
  flags->inference.add(command, true);
  add_sampling_flags(command, flags->sampling);
  add_prompt_cache_flags(command, flags->cache, true);
  CompletionOptions& o = flags->completion;
  command.add_text("--prompt", flags->prompt.text, "text to go on from; special tokens in it are such");
  command.add("--prompt-file", flags->prompt_file, "a file with the prompt").excludes("--prompt");
  command
      .add("--prompts", flags->prompts,
           "a file of prompts, answered together: a line of text each, or JSONL with prompt and system, or messages")
      .excludes("--prompt")
      .excludes("--prompt-file");
  command.add("--batch", flags->batch, "with --prompts: how many at once; 8 at most without it").in_range(1, 1024);
  command.add("--chat", flags->prompt.chat, "the prompt is a user's message: format it as the model's chat does");
  command.add_text("--system", flags->prompt.system, "system message; implies --chat");
  command.add("--max-tokens", o.max_tokens, "tokens to make at most").shows_default();
  command.add("--stop", o.stops, "text before which the reply ends; may be given several times").one_value_each();
  command.add("--grammar", flags->grammar, "a file in GBNF that the reply is held to");
  command
      .add("--json-schema", flags->json_schema, "a JSON schema, or a file with one: the reply is JSON that it allows")
      .excludes("--grammar");
  command
      .add("--logprobs", o.logprobs,
           "with --json: log probabilities of each token and of so many likeliest ones in its place")
      .in_range(0, 1000);
  command.add("--context", flags->context, "tokens of prompt and reply; as many as needed without it");
  command.add("--bos", flags->prompt.bos, "begin with the beginning-of-sequence token, whatever the tokenizer says");
  command.add("--json", flags->json, "one JSON object");
  return [flags, &command]() -> Result<void> {
    CompletionOptions& completion = flags->completion;
    const GenerationConfig config = TRY(settle_sampling(command, flags->inference.model(), flags->sampling));
    if (!is_given(command, "--max-tokens")) {
      completion.max_tokens = config.max_new_tokens.value_or(completion.max_tokens);
      completion.max_length = config.max_length.value_or(0);
    }
    completion.stops.insert(completion.stops.end(), config.stop_strings.begin(), config.stop_strings.end());
    const bool one = flags->prompts.empty(), chat = flags->prompt.chat || !flags->prompt.system.empty();
    const char* const no_chat = "only chats have a template: add --chat";
    CHECK_OK(refuse_void(command, {{"--batch", one, "it is for --prompts FILE: without it there is one prompt"},
                                   {"--logprobs", one && !flags->json, "log probabilities are told with --json"},
                                   {"--prompt-cache", !one, "it keeps one prompt, and --prompts has many"},
                                   {"--json", !one, "--prompts always writes one JSON object a line"},
                                   {"--chat-template", one && !chat, no_chat},
                                   {"--template-var", one && !chat, no_chat},
                                   {"--date", one && !chat, no_chat},
                                   {"--bos", chat, "the chat template says how a chat begins"},
                                   {"--bos", is_given(command, "--no-bos"), "--no-bos says the opposite"}}));
    CHECK_OK(check_prompt_cache(command, flags->cache, flags->inference, flags->prompt_file));
    return generate(*flags);
  };
}

}  // namespace

const Command kGenerate = {"generate", "go on from a prompt", add, true};

}  // namespace thimble
