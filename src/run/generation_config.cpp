#include "run/generation_config.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "files/file.h"
#include "files/json.h"
#include "text/keep_files.h"

namespace thimble {
namespace {

using enum FieldMeaning;

constexpr std::string_view kBeams = "there is no search over beams", kAssisted = "it only makes transformers faster",
                           kReturned = "it is about what a call returns", kMemory = "it is about transformers' memory",
                           kTokens = "the tokenizer says it", kForced = "tokens are not forced",
                           kBanned = "tokens are not banned", kFilter = "this way of leaving tokens out is not there",
                           kEncoder = "it is of models with an encoder";

// GenerationConfig of transformers 5.24; ends are read in src/text/tokenizer_config.cpp.
constexpr auto kFields = std::to_array<FieldNote>({
    {"do_sample"},
    {"temperature"},
    {"top_k"},
    {"top_p"},
    {"min_p"},
    {"typical_p"},
    {"repetition_penalty"},
    {"max_new_tokens"},
    {"max_length"},
    {"stop_strings"},
    {"eos_token_id"},
    {"num_beams", warned, kBeams},
    {"num_beam_groups", warned, kBeams},
    {"diversity_penalty", warned, kBeams},
    {"early_stopping", harmless, kBeams},
    {"length_penalty", harmless, kBeams},
    {"constraints", warned, kForced},
    {"force_words_ids", warned, kForced},
    {"forced_bos_token_id", warned, kForced},
    {"forced_eos_token_id", warned, kForced},
    {"forced_decoder_ids", warned, kForced},
    {"bad_words_ids", warned, kBanned},
    {"suppress_tokens", warned, kBanned},
    {"begin_suppress_tokens", warned, kBanned},
    {"sequence_bias", warned, "logits are not shifted for sequences"},
    {"no_repeat_ngram_size", warned, "repeated n-grams are not banned; --repetition-penalty is there"},
    {"encoder_no_repeat_ngram_size", warned, kEncoder},
    {"encoder_repetition_penalty", warned, kEncoder},
    {"decoder_start_token_id", harmless, kEncoder},
    {"min_length", warned, "a reply may end at once"},
    {"min_new_tokens", warned, "a reply may end at once"},
    {"exponential_decay_length_penalty", warned, "ends do not become likelier"},
    {"epsilon_cutoff", warned, kFilter},
    {"eta_cutoff", warned, kFilter},
    {"top_h", warned, kFilter},
    {"penalty_alpha", warned, "there is no contrastive search"},
    {"dola_layers", warned, "there is no DoLa"},
    {"guidance_scale", warned, "there is no classifier-free guidance"},
    {"watermarking_config", warned, "replies are not watermarked"},
    {"renormalize_logits", harmless, "what is sampled from always adds up to 1"},
    {"remove_invalid_values", harmless, "logits that are not finite are an error"},
    {"token_healing", warned, "the last token of a prompt stays"},
    {"use_mtp", harmless, kAssisted},
    {"speculation_type", harmless, kAssisted},
    {"is_assistant", harmless, kAssisted},
    {"assistant_*", harmless, kAssisted},
    {"num_assistant_tokens*", harmless, kAssisted},
    {"prompt_lookup_num_tokens", harmless, kAssisted},
    {"max_matching_ngram_size", harmless, kAssisted},
    {"target_lookbehind", harmless, kAssisted},
    {"output_*", harmless, kReturned},
    {"return_dict_in_generate", harmless, kReturned},
    {"num_return_sequences", harmless, kReturned},
    {"use_cache", harmless, "the cache changes no token"},
    {"cache_*", harmless, kMemory},
    {"max_cache_len", harmless, kMemory},
    {"low_memory", harmless, kMemory},
    {"prefill_chunk_size", harmless, kMemory},
    {"continuous_batching_config", harmless, kMemory},
    {"compile_config", harmless, "nothing is compiled"},
    {"disable_compile", harmless, "nothing is compiled"},
    {"max_time", warned, "a reply takes the time that it takes"},
    {"bos_token_id", harmless, kTokens},
    {"pad_token_id", harmless, "rows of a batch are not padded"},
    {"_from_model_config", harmless, "it says where the file is from"},
    {"_commit_hash", harmless, "it says where the file is from"},
    {"transformers_version", harmless, "it says where the file is from"},
    {"chat_format", harmless, "the chat template says it"},
    {"max_window_size", harmless, "it is of Qwen's first code, for prompts that are cut"},
    {"trust_remote_code", harmless, "no code is run"},
});

template <class T>
Result<void> take(const Json& value, std::string_view key, const std::string& path, std::optional<T>& to) {
  if (value.is_null()) return {};
  if (!value.is_number())
    return fail(ErrorCode::corrupt, "reading {}: '{}' is {}, expected a number", path, key, value.dump());
  to = value.get<T>();
  return {};
}

Result<void> take_stops(const Json& value, const std::string& path, std::vector<std::string>& to) {
  for (const Json& text : value.is_array() ? value : Json::array({value})) {
    if (text.is_null()) continue;
    if (!text.is_string())
      return fail(ErrorCode::corrupt, "reading {}: 'stop_strings' holds {}, expected strings", path, text.dump());
    if (!text.get<std::string>().empty()) to.push_back(text.get<std::string>());
  }
  return {};
}

}  // namespace

std::span<const FieldNote> generation_fields() { return kFields; }

Result<GenerationConfig> read_generation_config(const std::string& model) {
  GenerationConfig config;
  const std::string path = model + "/" + kGenerationConfig;
  if (!is_directory(model) || !is_file(path)) return config;
  const Json json = TRY(read_json_file(path));
  if (!json.is_object()) return fail(ErrorCode::corrupt, "reading {}: expected a JSON object", path);
  const auto number = [&](const char* key, auto& to) -> Result<void> {
    const auto found = json.find(key);
    return found == json.end() ? Result<void>() : take(*found, key, path, to);
  };
  if (const auto sample = json.find("do_sample"); sample != json.end() && sample->is_boolean())
    config.do_sample = sample->get<bool>();
  CHECK_OK(number("temperature", config.temperature));
  CHECK_OK(number("top_p", config.top_p));
  CHECK_OK(number("min_p", config.min_p));
  CHECK_OK(number("typical_p", config.typical_p));
  CHECK_OK(number("repetition_penalty", config.repetition_penalty));
  CHECK_OK(number("top_k", config.top_k));
  CHECK_OK(number("max_new_tokens", config.max_new_tokens));
  CHECK_OK(number("max_length", config.max_length));
  if (config.max_new_tokens) config.max_length.reset();
  if (const auto stops = json.find("stop_strings"); stops != json.end())
    CHECK_OK(take_stops(*stops, path, config.stop_strings));
  CHECK_OK(check_fields(json, kFields, path));
  return config;
}

std::string apply(const GenerationConfig& config, const GivenSampling& given, SamplingOptions& sampling) {
  std::string said;
  const auto take = [&](const char* name, bool is_given, auto value, auto& to) {
    if (is_given || !value) return;
    to = *value;
    said += fmt::format("{}{} {}", said.empty() ? "" : ", ", name, *value);
  };
  using Number = std::optional<double>;
  take("repetition-penalty", given.repetition_penalty, config.repetition_penalty, sampling.repetition_penalty);
  if (!given.temperature && config.do_sample)
    take("temperature", false, Number(config.temperature.value_or(1)), sampling.temperature);
  if (sampling.temperature == 0 || (!given.temperature && !config.do_sample)) return said;
  std::optional<int64_t> top_k = config.top_k;
  if (!given.temperature) top_k = config.top_k.value_or(50);
  take("top-k", given.top_k, top_k, sampling.top_k);
  const bool whole = !given.temperature && config.do_sample;  // the file's settings replace thimble's own
  take("top-p", given.top_p, whole ? Number(config.top_p.value_or(1)) : config.top_p, sampling.top_p);
  take("min-p", given.min_p, config.min_p, sampling.min_p);
  take("typical-p", given.typical_p, config.typical_p, sampling.typical_p);
  return said;
}

}  // namespace thimble
