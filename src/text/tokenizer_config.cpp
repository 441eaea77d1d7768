#include "text/tokenizer_config.h"

#include <filesystem>
#include <limits>

#include "files/file.h"
#include "files/json.h"
#include "text/special_tokens.h"

namespace thimble {
namespace {

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

// The ids of a number, or of a list of them.
void add_ids(const Json& config, const char* key, std::vector<int32_t>& ids) {
  const auto found = config.find(key);
  if (found == config.end()) return;
  for (const Json& id : found->is_array() ? *found : Json::array({*found})) {
    if (id.is_number_integer() && id >= 0 && id <= std::numeric_limits<int32_t>::max())
      ids.push_back(id.get<int32_t>());
  }
}

// Files beside the tokenizer that name its tokens where tokenizer_config.json does not, and more ends of a text.
Result<void> read_other_configs(const fs::path& folder, Vocabulary& vocabulary) {
  std::error_code ignored;
  if (const fs::path path = folder / "special_tokens_map.json"; fs::exists(path, ignored)) {
    const Json map = TRY(read_json_file(path.string()));
    if (!map.is_object()) return fail(ErrorCode::corrupt, "reading {}: expected a JSON object", path.string());
    SpecialTokens specials;
    specials.build(vocabulary.tokens);
    const auto set = [&](const char* key, std::optional<int32_t>& id) {
      const auto text = id ? std::nullopt : token_text(map, key);
      if (const int32_t found = text ? specials.find(*text) : -1; found >= 0) id = found;
    };
    set("bos_token", vocabulary.bos);
    set("eos_token", vocabulary.eos);
    set("unk_token", vocabulary.unknown);
    set("pad_token", vocabulary.padding);
  }
  for (const char* name : {"generation_config.json", "config.json"}) {
    const fs::path path = folder / name;
    if (!fs::exists(path, ignored)) continue;
    const Json config = TRY(read_json_file(path.string()));
    if (config.is_object()) add_ids(config, "eos_token_id", vocabulary.ends);
  }
  std::erase_if(vocabulary.ends, [&](int32_t id) { return id >= vocabulary.tokens.size(); });
  if (!vocabulary.eos && !vocabulary.ends.empty()) vocabulary.eos = vocabulary.ends.front();
  return {};
}

}  // namespace

Result<void> read_tokenizer_config(const std::string& folder, Vocabulary& vocabulary) {
  const fs::path at = folder.empty() ? fs::path(".") : fs::path(folder);
  std::error_code ignored;
  if (const fs::path path = at / "tokenizer_config.json"; fs::exists(path, ignored)) {
    const Json config = TRY(read_json_file(path.string()));
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
  CHECK_OK(read_other_configs(at, vocabulary));
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
