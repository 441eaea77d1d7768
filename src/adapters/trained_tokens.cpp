#include "adapters/trained_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "adapters/peft_config.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

constexpr const char* kField = "trainable_token_indices";
constexpr std::string_view kWrapper = ".token_adapter.";  // between the module and its rows in a tensor's name

// Checked here, where the file's own name for the list is known.
Result<void> check_tokens(const Ordered& tokens, const std::string& source) {
  const auto is_token = [](const Ordered& one) {
    return one.is_number_integer() && one.get<double>() >= 0 && one.get<double>() <= kTrainableTokens.options[0].most;
  };
  const bool list = tokens.is_array();
  const auto wrong = list ? std::ranges::find_if_not(tokens, is_token) : tokens.end();
  if (list && wrong == tokens.end()) return {};
  return fail(ErrorCode::corrupt, "reading {}: '{}' should be a list of token ids, or such lists by module; found {}",
              source, kField, (list ? *wrong : tokens).dump(-1, ' ', false, Ordered::error_handler_t::replace));
}

// Lists by module; PEFT takes a list without one for the embedding, however it is called.
Result<Ordered> tokens_of_modules(const Ordered& modules, Ordered made, const std::string& source) {
  for (const auto& [name, tokens] : modules.items()) {
    CHECK_OK(check_tokens(tokens, source));
    if (made.contains("token_indices") && made["token_indices"] != tokens)
      return fail(ErrorCode::unsupported,
                  "reading {}: '{}' has other tokens for '{}' than for '{}', and all modules of one adapter train the "
                  "same ones here; leave one of them out",
                  source, kField, name, made["target_modules"].front().get<std::string>());
    made["token_indices"] = tokens;
    made["target_modules"].push_back(name);
  }
  return made;
}

}  // namespace

Result<Ordered> take_token_indices(Ordered& config, const std::string& source) {
  const auto found = config.is_object() ? config.find(kField) : config.end();
  if (!config.is_object() || found == config.end()) return Ordered();
  const Ordered tokens = *found;
  config.erase(kField);
  if (tokens.is_null() || (tokens.is_structured() && tokens.empty())) return Ordered();
  Ordered made = {{"peft_type", kTrainableTokens.form.type}};
  if (tokens.is_object()) return tokens_of_modules(tokens, std::move(made), source);
  CHECK_OK(check_tokens(tokens, source));
  made["token_indices"] = tokens;
  return made;
}

Result<Adapter> take_tokens(Adapter& adapter, Ordered config) {
  Adapter tokens{.path = adapter.path,
                 .rewrite = &kTrainableTokens,
                 .config = std::move(config),
                 .system_prompt = adapter.system_prompt,
                 .chat_template = adapter.chat_template};
  tokens.weights = TRY(InputFile::open(adapter.weights->path()));
  for (auto at = adapter.tensors.begin(); at != adapter.tensors.end();) {
    SafetensorsEntry& entry = at->second;
    const size_t wrapper = entry.name.find(kWrapper);
    if (wrapper == std::string::npos) {
      ++at;
      continue;
    }
    entry.name.erase(wrapper, kWrapper.size() - 1);
    const std::string key = tensor_key(entry.name);
    // A list is for the embedding, which is the module that has rows.
    if (!tokens.config->contains("target_modules"))
      (*tokens.config)["target_modules"].push_back(key.substr(0, key.rfind('.')));
    tokens.tensors.try_emplace(key, std::move(entry));
    at = adapter.tensors.erase(at);
  }
  if (tokens.tensors.empty())
    return fail(ErrorCode::corrupt,
                "reading {}: '{}' of adapter_config.json names tokens, and there are no rows for them",
                adapter.weights->path(), kField);
  TRY(check_peft_config(*tokens.config, adapter.path + kAdapterConfig));
  TRY(peft_options(kTrainableTokens, *tokens.config, adapter.path + kAdapterConfig));
  return tokens;
}

}  // namespace thimble
