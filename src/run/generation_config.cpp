#include "run/generation_config.h"

#include <algorithm>
#include <array>

#include "core/warnings.h"
#include "files/file.h"
#include "files/json.h"
#include "text/keep_files.h"

namespace thimble {
namespace {

// Fields without an effect on which tokens are made, or read elsewhere (ends: src/text/tokenizer_config.cpp).
constexpr std::array<std::string_view, 22> kHarmless = {
    "_from_model_config",   "_commit_hash",         "transformers_version",    "bos_token_id",
    "eos_token_id",         "pad_token_id",         "decoder_start_token_id",  "use_cache",
    "cache_implementation", "cache_config",         "output_scores",           "output_logits",
    "output_attentions",    "output_hidden_states", "return_dict_in_generate", "max_length",
    "num_return_sequences", "chat_format",          "max_window_size",         "max_time",
    "trust_remote_code",    "compile_config"};

bool is_neutral(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_number() && (value == 0 || value == 1)) ||
         ((value.is_array() || value.is_object() || value.is_string()) && value.empty());
}

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

Result<GenerationConfig> read_generation_config(const std::string& model) {
  GenerationConfig config;
  const std::string path = model + "/" + kGenerationConfig;
  if (!is_directory(model) || !is_file(path)) return config;
  const Json json = TRY(read_json_file(path));
  if (!json.is_object()) return fail(ErrorCode::corrupt, "reading {}: expected a JSON object", path);
  std::string unknown;
  for (const auto& [key, value] : json.items()) {
    if (key == "do_sample") {
      config.do_sample = value.is_boolean() && value.get<bool>();
    } else if (key == "temperature") {
      CHECK_OK(take(value, key, path, config.temperature));
    } else if (key == "top_p") {
      CHECK_OK(take(value, key, path, config.top_p));
    } else if (key == "min_p") {
      CHECK_OK(take(value, key, path, config.min_p));
    } else if (key == "typical_p") {
      CHECK_OK(take(value, key, path, config.typical_p));
    } else if (key == "repetition_penalty") {
      CHECK_OK(take(value, key, path, config.repetition_penalty));
    } else if (key == "top_k") {
      CHECK_OK(take(value, key, path, config.top_k));
    } else if (key == "max_new_tokens") {
      CHECK_OK(take(value, key, path, config.max_new_tokens));
    } else if (key == "stop_strings") {
      CHECK_OK(take_stops(value, path, config.stop_strings));
    } else if (std::ranges::find(kHarmless, key) == kHarmless.end() && !is_neutral(value)) {
      unknown += fmt::format("{}{}", unknown.empty() ? "" : ", ", key);
    }
  }
  if (!unknown.empty())
    warn(fmt::format("{} asks for what is not done here: {}; texts may differ from transformers'", path, unknown));
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
