#include "text/tokenizer_config.h"

#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "files/file.h"
#include "files/json.h"
#include "text/special_tokens.h"
#include "text/tokenizer_fields.h"

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

constexpr uint64_t kLargestConfig = 8u << 20;

fs::path place(const std::string& folder, const char* name) {
  return (folder.empty() ? fs::path(".") : fs::path(folder)) / name;
}

// An object, or an empty one where the file is not there.
Result<Json> optional_object(const fs::path& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return Json::object();
  Json json = TRY(read_json_file(path.string(), kLargestConfig));
  if (!json.is_object()) return fail(ErrorCode::corrupt, "reading {}: expected a JSON object", path.string());
  return json;
}

Result<int32_t> id_of(const Json& id, const fs::path& path) {
  if (id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < TokenTable::kMaxTokens)
    return id.get<int32_t>();
  return fail(ErrorCode::corrupt, "reading {}: the id of an added token is no number from 0 to {}", path.string(),
              TokenTable::kMaxTokens - 1);
}

}  // namespace

Result<std::map<int32_t, AddedToken>> read_added_decoder(const std::string& folder) {
  std::map<int32_t, AddedToken> found;
  const fs::path config = place(folder, "tokenizer_config.json");
  const Json settings = TRY(optional_object(config));
  const auto decoder = settings.find("added_tokens_decoder");
  if (decoder == settings.end() || !decoder->is_object()) return found;
  for (const auto& [key, token] : decoder->items()) {
    const int32_t number = TRY(id_of(Json::parse(key, nullptr, false), config));
    const auto content = token.is_object() ? token.find("content") : token.end();
    if (!token.is_object() || content == token.end() || !content->is_string())
      return fail(ErrorCode::corrupt, "reading {}: added token {} has no content", config.string(), key);
    const auto flag = [&token = token](const char* name, bool otherwise) {
      const auto value = token.find(name);
      return value != token.end() && value->is_boolean() ? value->get<bool>() : otherwise;
    };
    const bool special = flag("special", false);
    found[number] = {.id = number,
                     .text = content->get<std::string>(),
                     .special = special,
                     .left_strip = flag("lstrip", false),
                     .right_strip = flag("rstrip", false),
                     .single_word = flag("single_word", false),
                     .normalized = flag("normalized", !special)};
  }
  return found;
}

Result<std::vector<AddedToken>> read_added_tokens(const std::string& folder) {
  std::map<int32_t, AddedToken> found = TRY(read_added_decoder(folder));
  const fs::path list = place(folder, "added_tokens.json");
  const Json listed = TRY(optional_object(list));  // which the loop's items only refer to
  for (const auto& [text, id] : listed.items()) {
    const int32_t number = TRY(id_of(id, list));
    found.try_emplace(number, AddedToken{.id = number, .text = text});
  }
  std::vector<AddedToken> added;
  for (auto& [id, token] : found) added.push_back(std::move(token));
  return added;
}

Result<void> add_tokens(std::span<const AddedToken> added, Vocabulary& vocabulary) {
  for (const AddedToken& token : added) {
    const TokenKind kind = token.special ? TokenKind::control : TokenKind::user_defined;
    if (vocabulary.tokens.bytes(token.id) == token.text)
      vocabulary.tokens.set_kind(token.id, kind);
    else
      CHECK_OK(vocabulary.tokens.set(token.id, token.text, kind));
    const TokenRules rules{token.id, token.left_strip, token.right_strip, token.single_word};
    if (rules.any()) vocabulary.rules.push_back(rules);
  }
  return {};
}

Result<TokenizerSettings> read_tokenizer_settings(const std::string& folder) {
  const Json config = TRY(optional_object(place(folder, "tokenizer_config.json")));
  TokenizerSettings settings;
  if (const auto found = config.find("tokenizer_class"); found != config.end() && found->is_string())
    settings.tokenizer_class = found->get<std::string>();
  const auto flag = [&](const char* key) -> std::optional<bool> {
    const auto found = config.find(key);
    return found != config.end() && found->is_boolean() ? std::optional(found->get<bool>()) : std::nullopt;
  };
  settings.add_prefix_space = flag("add_prefix_space");
  settings.legacy = flag("legacy");
  return settings;
}

Result<void> read_tokenizer_config(const std::string& folder, Vocabulary& vocabulary) {
  const fs::path at = folder.empty() ? fs::path(".") : fs::path(folder);
  std::error_code ignored;
  if (const fs::path path = at / "tokenizer_config.json"; fs::exists(path, ignored)) {
    const Json config = TRY(read_json_file(path.string()));
    if (!config.is_object()) {
      return fail(ErrorCode::corrupt, "reading {}: expected a JSON object", path.string());
    }
    CHECK_OK(check_fields(config, tokenizer_config_fields(), path.string()));
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
