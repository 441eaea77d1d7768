#include <algorithm>
#include <array>
#include <bitset>
#include <filesystem>

#include "text/byte_bpe.h"
#include "text/byte_characters.h"
#include "text/json_tokenizer.h"
#include "text/tokenizer_config.h"

namespace thimble {
namespace {

namespace dom = simdjson::dom;

Result<std::string> split_pattern(const JsonTokenizer& json, const dom::object& part) {
  dom::object pattern;
  if (part.at_key("pattern").get(pattern) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: a Split has no pattern", json.path);
  }
  const std::string_view literal = text_of(pattern, "String");
  return literal.empty() ? std::string(text_of(pattern, "Regex")) : Pattern::quoted(literal);
}

// Classes whose own add_prefix_space, in tokenizer_config.json, transformers puts over tokenizer.json's.
bool sets_prefix_space(std::string_view tokenizer_class) {
  constexpr std::array<std::string_view, 5> kClasses = {"GPT2Tokenizer", "RobertaTokenizer", "BartTokenizer",
                                                        "LongformerTokenizer", "CodeGenTokenizer"};
  if (tokenizer_class.ends_with("Fast")) tokenizer_class.remove_suffix(4);
  return std::ranges::find(kClasses, tokenizer_class) != kClasses.end();
}

Result<ByteBpeRules> read_rules(const JsonTokenizer& json) {
  ByteBpeRules rules;
  rules.nfc = !json.normalizers.empty();
  std::vector<std::string> patterns;
  for (const dom::object& part : json.pre_tokenizers) {
    const std::string_view type = text_of(part, "type");
    if (type == "ByteLevel") {
      if (flag_of(part, "use_regex", true)) patterns.emplace_back(gpt2_pattern());
      rules.prefix_space = flag_of(part, "add_prefix_space", true);
    } else if (type == "Digits") {
      patterns.emplace_back(flag_of(part, "individual_digits", false) ? digit_pattern() : R"(\p{N}+)");
    } else {
      patterns.push_back(TRY(split_pattern(json, part)));
    }
  }
  rules.pre = TRY(PreTokenizer::make(patterns));
  rules.ignores_merges = flag_of(json.model, "ignore_merges", false);
  const auto folder = std::filesystem::path(json.path).parent_path().string();
  const TokenizerSettings settings = TRY(read_tokenizer_settings(folder));
  if (settings.add_prefix_space && json.pre_tokenizers.size() == 1 && sets_prefix_space(settings.tokenizer_class))
    rules.prefix_space = *settings.add_prefix_space;
  return rules;
}

// Whether every byte has a token, so that nothing is ever unknown.
bool has_all_bytes(const dom::object& vocab) {
  std::bitset<256> known;
  std::string bytes;
  for (const auto [token, value] : vocab)
    if (token.size() <= 2 && bytes_of_characters(token, bytes) && bytes.size() == 1)
      known.set(static_cast<unsigned char>(bytes[0]));
  return known.all();
}

// What thimble's own tokenizer does as tokenizers does it: patterns that cut around their matches. `Removed` with
// `invert` drops what is not matched, which the patterns in use leave nothing of; thimble keeps it.
bool is_plain_cut(const dom::object& part) {
  const std::string_view type = text_of(part, "type"), behavior = text_of(part, "behavior");
  const bool invert = flag_of(part, "invert", false);
  return type == "Digits" ||
         (type == "Split" && ((behavior == "Isolated" && !invert) || (behavior == "Removed" && invert)));
}

Result<void> read_tokens(const JsonTokenizer& json, ByteBpeReader& reader) {
  dom::object vocab;
  if (json.model.at_key("vocab").get(vocab) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: the BPE model has no object 'vocab'", json.path);
  }
  for (const auto& added : json.added) {
    CHECK_OK(reader.vocabulary.tokens.set(added.id, added.text, added.kind));
    if (added.rules.any()) reader.vocabulary.rules.push_back(added.rules);
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

bool is_byte_bpe(const JsonTokenizer& json) {
  const auto is = [](std::string_view type) {
    return [type](const dom::object& part) { return text_of(part, "type") == type; };
  };
  const auto& splits = json.pre_tokenizers;
  dom::object vocab;
  double dropout = 0;
  const bool drops = json.model.at_key("dropout").get(dropout) == simdjson::SUCCESS && dropout != 0;
  if (json.model_type() != "BPE" || drops || flag_of(json.model, "byte_fallback", false) ||
      !text_of(json.model, "continuing_subword_prefix").empty() || !text_of(json.model, "end_of_word_suffix").empty() ||
      !std::ranges::all_of(json.normalizers, is("NFC")) || !std::ranges::all_of(json.decoders, is("ByteLevel")) ||
      splits.empty() || !is("ByteLevel")(splits.back()) ||
      !std::ranges::all_of(splits.begin(), splits.end() - 1, is_plain_cut))
    return false;
  if (splits.size() > 1 && flag_of(splits.back(), "add_prefix_space", true)) return false;  // before every piece
  const bool unknown = !text_of(json.model, "unk_token").empty();
  return !unknown || (json.model.at_key("vocab").get(vocab) == simdjson::SUCCESS && has_all_bytes(vocab));
}

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
