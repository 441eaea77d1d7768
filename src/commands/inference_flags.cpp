#include "commands/inference_flags.h"

#include <random>

#include "commands/command_line.h"
#include "commands/table_names.h"
#include "commands/template_flags.h"
#include "commands/void_flags.h"
#include "core/warnings.h"
#include "run/recipe.h"

namespace thimble {

void InferenceFlags::add(FlagSet& command, bool decodes) {
  InferenceOptions& o = options_;
  command.add("--model", o.model, "model: a GGUF file, a Hugging Face folder or a llama2.c .bin");
  command.add("--adapter", o.adapter, "adapter: a PEFT folder or a GGUF adapter; several with commas between");
  command.add("--adapter-scale", o.adapter_scale, "what each adapter is multiplied with: 0.5, or 0.5,2");
  command.add("--tokenizer", o.tokenizer, "tokenizer, when the model brings none");
  command.add("--memory", memory_, "most resident memory of the process: 300M, 1.5G");
  command.add("--plan", plan_only_, "show where every byte would go and what a token would cost, and stop");
  command.add("--scratch", o.scratch,
              "folder on a disk where weights wait that do not fit into --memory (by default the user's cache); "
              "none: no disk");
  command.add("--precision", o.precision, "rounding of activations: bf16, f32").shows_default();
  command.add("--multiply", o.multiply, "how operands are multiplied: auto, f32, bf16, int8").shows_default();
  command.add("--cache-type", o.cache_type, "of cached keys and values: auto (as --precision), f32, bf16, q8_0")
      .shows_default();
  if (decodes)
    command
        .add("--decoder", o.decoder,
             fmt::format("how tokens are guessed ahead, which leaves the text as it is: {}", names_of(decoders())))
        .shows_default();
  if (decodes)
    command
        .add("--cache", o.cache,
             fmt::format("which tokens stay when the context is full: {}", names_of(cache_policies())))
        .shows_default();
  if (decodes)
    command.add_settings("--set", o.set, "an option of the decoder or the cache: decoder.tokens=4, cache.sinks=4");
  add_template_flags(command, o.chat_template, o.template_variables, o.date);
  command.add("--no-bos", o.no_bos, "leave out the beginning-of-sequence token that the tokenizer would add");
  command.add("--threads", o.threads, "0: one a CPU").shows_default().in_range(0, 1024);
}

Result<InferenceOptions> InferenceFlags::finish() {
  if (!memory_.empty()) options_.memory = TRY(parse_bytes(memory_));
  return options_;
}

void add_prompt_cache_flags(FlagSet& command, PromptCacheOptions& o, bool all) {
  command.add("--prompt-cache", o.file,
              "a file that keeps what the model has made of the prompt: a later prompt that begins the same goes on "
              "from there");
  if (all) command.add("--prompt-cache-all", o.all, "keep what it has made of the reply, too");
  command.add("--prompt-cache-ro", o.read_only, "only read the file, and leave it as it is");
}

Result<void> check_prompt_cache(const FlagSet& command, const PromptCacheOptions& o, const InferenceFlags& flags,
                                const std::string& prompt_file) {
  const char* const no_file = "--prompt-cache FILE names no file";
  CHECK_OK(refuse_void(command, {{"--prompt-cache-ro", o.file.empty(), no_file}}));
  if (o.all)
    CHECK_OK(refuse_void(command, {{"--prompt-cache-all", o.file.empty(), no_file},
                                   {"--prompt-cache-all", o.read_only, "--prompt-cache-ro writes nothing"}}));
  std::vector<std::string> inputs = adapter_paths(flags.adapter());
  inputs.insert(inputs.end(), {flags.model(), flags.tokenizer(), prompt_file});
  return check_output("--prompt-cache", o.file, inputs);
}

void add_sampling_flags(FlagSet& command, SamplingOptions& o) {
  command
      .add("--temperature", o.temperature,
           "0: always the likeliest token; without the flag as the model's generation_config.json says")
      .shows_default();
  command.add("--top-k", o.top_k, "of the k likeliest tokens only; 0: all").shows_default();
  command.add("--top-p", o.top_p, "of the likeliest tokens that together have this probability only").shows_default();
  command.add("--min-p", o.min_p, "of tokens at least so likely as this part of the likeliest's probability only")
      .shows_default();
  command
      .add("--typical-p", o.typical_p,
           "of the tokens nearest to the expected surprise that together have this probability only")
      .shows_default();
  command
      .add("--repetition-penalty", o.repetition_penalty,
           "logits of tokens in prompt or reply are divided by it, negative ones multiplied; 1: off")
      .shows_default();
  command.add("--presence-penalty", o.presence_penalty, "taken off the logit of a token in prompt or reply, once")
      .shows_default();
  command
      .add("--frequency-penalty", o.frequency_penalty,
           "taken off the logit of a token in prompt or reply, as often as it stands there")
      .shows_default();
  command.add("--repeat-last", o.repeat_last, "how many of the last tokens penalties look at; -1: all").shows_default();
  command.add("--seed", o.seed, "of the sampling; drawn, and told, without the flag");
}

Result<GenerationConfig> settle_sampling(const FlagSet& command, const std::string& model, SamplingOptions& o) {
  const auto given = [&](const char* flag) { return is_given(command, flag); };
  const GenerationConfig config = TRY(read_generation_config(model));
  const std::string said = apply(config,
                                 {given("--temperature"), given("--top-k"), given("--top-p"), given("--min-p"),
                                  given("--typical-p"), given("--repetition-penalty")},
                                 o);
  if (!said.empty()) fmt::print(stderr, "as generation_config.json says: {}\n", said);
  if (o.temperature > 0 && !given("--seed")) o.seed = std::random_device()();
  for (const char* flag : {"--top-k", "--top-p", "--min-p", "--typical-p", "--seed"})
    if (o.temperature == 0 && given(flag))
      warn(fmt::format("{} has no effect: without --temperature the likeliest token is always taken", flag));
  const bool penalties = o.repetition_penalty != 1 || o.presence_penalty != 0 || o.frequency_penalty != 0;
  if (!penalties && given("--repeat-last"))
    warn("--repeat-last has no effect: there is no penalty that looks at earlier tokens");
  return config;
}

}  // namespace thimble
