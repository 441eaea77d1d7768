#include "text/byte_bpe.h"
#include "text/json_tokenizer.h"

namespace thimble {
namespace {

namespace dom = simdjson::dom;

// A literal as a pattern.
std::string quoted(std::string_view text) {
  std::string pattern;
  for (char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}#-").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

Result<std::string> split_pattern(const JsonTokenizer& json, const dom::object& part) {
  // Isolated cuts around every match. Removed with `invert` drops what is not matched, which the patterns in use leave
  // nothing of; thimble keeps it.
  const std::string_view behavior = text_of(part, "behavior");
  const bool isolates = behavior == "Isolated" || (behavior == "Removed" && flag_of(part, "invert", false));
  if (!isolates) return unsupported_part(json, "behavior of Split", behavior, "Isolated, and Removed with invert");
  dom::object pattern;
  if (part.at_key("pattern").get(pattern) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: a Split has no pattern", json.path);
  }
  const std::string_view literal = text_of(pattern, "String");
  return literal.empty() ? std::string(text_of(pattern, "Regex")) : quoted(literal);
}

Result<ByteBpeRules> read_rules(const JsonTokenizer& json) {
  ByteBpeRules rules;
  for (const dom::object& part : json.normalizers) {
    const std::string_view type = text_of(part, "type");
    if (type != "NFC") return unsupported_part(json, "normalizer", type, "NFC with byte-level BPE");
    rules.nfc = true;
  }
  std::vector<std::string> patterns;
  for (const dom::object& part : json.pre_tokenizers) {
    const std::string_view type = text_of(part, "type");
    if (type == "ByteLevel") {
      if (flag_of(part, "use_regex", true)) patterns.emplace_back(gpt2_pattern());
      rules.prefix_space = flag_of(part, "add_prefix_space", true);
      if (rules.prefix_space && patterns.size() > 1) {
        return unsupported_part(json, "pre-tokenizer", "ByteLevel with add_prefix_space after others", "it alone");
      }
    } else if (type == "Digits") {
      patterns.emplace_back(flag_of(part, "individual_digits", false) ? digit_pattern() : R"(\p{N}+)");
    } else if (type == "Split") {
      patterns.push_back(TRY(split_pattern(json, part)));
    } else {
      return unsupported_part(json, "pre-tokenizer", type, "ByteLevel, Digits, Split and Sequences of them");
    }
  }
  rules.pre = TRY(PreTokenizer::make(patterns));
  rules.ignores_merges = flag_of(json.model, "ignore_merges", false);
  return rules;
}

Result<void> read_tokens(const JsonTokenizer& json, ByteBpeReader& reader) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string_view text = text_of(json.model, key);
    if (!text.empty()) return unsupported_part(json, key, text, "none");
  }
  dom::object vocab;
  if (json.model.at_key("vocab").get(vocab) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: the BPE model has no object 'vocab'", json.path);
  }
  for (const auto& added : json.added) {
    CHECK_OK(reader.vocabulary.tokens.set(added.id, added.text, added.kind));
    if (added.strip.left || added.strip.right) reader.vocabulary.strips.push_back(added.strip);
  }
  for (const auto [token, value] : vocab) {
    int64_t id = -1;
    if (value.get(id) != simdjson::SUCCESS || id < 0 || id >= TokenTable::kMaxTokens) {
      return fail(ErrorCode::corrupt, "reading {}: the id of '{}' is no number from 0 to {}", json.path, token,
                  TokenTable::kMaxTokens - 1);
    }
    if (json.is_added(static_cast<int32_t>(id))) continue;
    CHECK_OK(reader.add_token(static_cast<int32_t>(id), token, TokenKind::normal));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_json_byte_bpe(const JsonTokenizer& json) {
  ByteBpeRules rules = TRY(read_rules(json));
  ByteBpeReader reader;
  CHECK_OK(read_tokens(json, reader));
  reader.start_merges();
  CHECK_OK(for_each_merge(
      json, [&](std::string_view left, std::string_view right) { return reader.add_merge(left, right); }));
  CHECK_OK(read_processors(json, reader.vocabulary));
  CHECK_OK(finish(reader.vocabulary, json.path));
  return make_byte_bpe(std::move(reader.vocabulary), std::move(rules));
}

}  // namespace thimble
