#include "text/tokenizer_config.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "files/file.h"
#include "text/special_tokens.h"

namespace thimble {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

// "<s>", or {"content": "<s>", ...}.
std::optional<std::string> token_text(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return std::nullopt;
  const Json& text = found->is_object() ? found->value("content", Json()) : *found;
  return text.is_string() ? std::optional(text.get<std::string>()) : std::nullopt;
}

// What a chat template may call a token, and the token's text.
std::vector<std::pair<std::string, std::string>> token_names(const Json& config) {
  std::vector<std::pair<std::string, std::string>> names;
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    if (auto text = token_text(config, key)) names.emplace_back(key, *std::move(text));
  }
  for (const char* group : {"extra_special_tokens", "model_specific_special_tokens"}) {
    const auto more = config.find(group);
    if (more == config.end() || !more->is_object()) continue;
    for (const auto& item : more->items()) {
      if (auto text = token_text(*more, item.key().c_str())) names.emplace_back(item.key(), *std::move(text));
    }
  }
  return names;
}

// A string, or a list of named templates of which "default" is the one.
std::string template_text(const Json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (!found->is_array()) return {};
  for (const Json& item : *found) {
    const auto text = item.is_object() ? item.find("template") : item.end();
    if (item.is_object() && item.value("name", Json()) == "default" && text != item.end() && text->is_string()) {
      return text->get<std::string>();
    }
  }
  return {};
}

}  // namespace

Result<void> read_tokenizer_config(const std::string& folder, Vocabulary& vocabulary) {
  const fs::path at = folder.empty() ? fs::path(".") : fs::path(folder);
  std::error_code ignored;
  if (const fs::path path = at / "tokenizer_config.json"; fs::exists(path, ignored)) {
    const Json config = Json::parse(TRY(read_text_file(path.string())), nullptr, false);
    if (!config.is_object()) {
      return fail(ErrorCode::corrupt, "reading {}: expected a JSON object", path.string());
    }
    SpecialTokens specials;
    specials.build(vocabulary.tokens);
    const auto set = [&](const char* key, std::optional<int32_t>& id) {
      const auto text = token_text(config, key);
      const int32_t found = text ? specials.find(*text) : -1;
      if (found >= 0) id = found;
    };
    vocabulary.token_names = token_names(config);
    set("bos_token", vocabulary.bos);
    set("eos_token", vocabulary.eos);
    set("unk_token", vocabulary.unknown);
    set("pad_token", vocabulary.padding);
    if (const auto adds = config.find("add_bos_token"); adds != config.end() && adds->is_boolean()) {
      vocabulary.adds_bos = adds->get<bool>();
    }
    if (const auto adds = config.find("add_eos_token"); adds != config.end() && adds->is_boolean()) {
      vocabulary.adds_eos = adds->get<bool>();
    }
    if (std::string text = template_text(config); !text.empty()) vocabulary.chat_template = std::move(text);
  }
  if (const fs::path path = at / "chat_template.jinja"; fs::exists(path, ignored)) {
    vocabulary.chat_template = TRY(read_text_file(path.string()));
  }
  return {};
}

Result<void> write_tokenizer_config(const std::string& folder, const Vocabulary& vocabulary,
                                    const std::string& chat_template) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"add_bos_token", vocabulary.adds_bos},
                 {"add_eos_token", vocabulary.adds_eos},
                 {"clean_up_tokenization_spaces", false},
                 {"model_max_length", 1000000000}};
  const auto put = [&](const char* key, std::optional<int32_t> id) {
    if (id) config[key] = std::string(vocabulary.tokens.bytes(*id));
  };
  put("bos_token", vocabulary.bos);
  put("eos_token", vocabulary.eos);
  put("unk_token", vocabulary.unknown);
  put("pad_token", vocabulary.padding);
  if (!chat_template.empty()) config["chat_template"] = chat_template;
  const std::string text = config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  return write_text_file((fs::path(folder) / "tokenizer_config.json").string(), text);
}

}  // namespace thimble
