#include <algorithm>

#include "text/json_tokenizer.h"
#include "text/sentencepiece.h"

namespace thimble {
namespace {

namespace dom = simdjson::dom;
using Prefix = SentencePieceRules::Prefix;

constexpr std::string_view kBlock = "\u2581";

bool is_block(const dom::object& part, std::string_view key) { return text_of(part, key) == kBlock; }

// Replace of a space by U+2581; here spaces stay spaces.
bool replaces_spaces(const dom::object& part) {
  dom::object pattern;
  return text_of(part, "type") == "Replace" && part.at_key("pattern").get(pattern) == simdjson::SUCCESS &&
         text_of(pattern, "String") == " " && is_block(part, "content");
}

// Gemma's, without effect: no space is left by then.
bool splits_at_spaces(const dom::object& part) {
  dom::object pattern;
  return text_of(part, "type") == "Split" && part.at_key("pattern").get(pattern) == simdjson::SUCCESS &&
         text_of(pattern, "String") == " ";
}

void read_metaspace(const dom::object& part, SentencePieceRules& rules) {
  const bool legacy = flag_of(part, "add_prefix_space", true);
  const std::string_view scheme = text_of(part, "prepend_scheme", legacy ? "always" : "never");
  rules.prefix = scheme == "always" ? Prefix::every_stretch : scheme == "first" ? Prefix::first_stretch : Prefix::none;
  rules.prefix_unless_space = true;
  if (flag_of(part, "split", true)) rules.cut = SentencePieceRules::Cut::before_space;
}

Result<void> read_bpe(const JsonTokenizer& json, SentencePieceReader& reader) {
  dom::object vocab;
  if (json.model.at_key("vocab").get(vocab) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: the BPE model has no object 'vocab'", json.path);
  }
  for (const auto [token, value] : vocab) {
    int64_t id = -1;
    if (value.get(id) != simdjson::SUCCESS || id < 0 || id >= TokenTable::kMaxTokens) {
      return fail(ErrorCode::corrupt, "reading {}: the id of '{}' is no number from 0 to {}", json.path, token,
                  TokenTable::kMaxTokens - 1);
    }
    const TokenKind kind = byte_of_name(token) >= 0 ? TokenKind::byte : TokenKind::normal;
    if (!json.is_added(static_cast<int32_t>(id))) {
      CHECK_OK(reader.add_piece(static_cast<int32_t>(id), token, 0, kind));
    }
  }
  reader.start_merges();
  reader.rules.by_rank = true;
  return for_each_merge(json,
                        [&](std::string_view left, std::string_view right) { return reader.add_merge(left, right); });
}

}  // namespace

// Spaces as U+2581, put there by normalizers (Llama 2, Gemma) or by a Metaspace; characters that are no tokens as
// bytes.
bool is_sentencepiece(const JsonTokenizer& json) {
  double dropout = 0;
  const bool drops = json.model.at_key("dropout").get(dropout) == simdjson::SUCCESS && dropout != 0;
  if (json.model_type() != "BPE" || drops || !flag_of(json.model, "byte_fallback", false) ||
      flag_of(json.model, "ignore_merges", false) || !text_of(json.model, "continuing_subword_prefix").empty() ||
      !text_of(json.model, "end_of_word_suffix").empty())
    return false;
  const auto& normalizers = json.normalizers;
  const auto& splits = json.pre_tokenizers;
  if (normalizers.empty()) {
    const std::string_view scheme = splits.size() == 1 ? text_of(splits[0], "prepend_scheme", "always") : "";
    return splits.size() == 1 && text_of(splits[0], "type") == "Metaspace" &&
           text_of(splits[0], "replacement", kBlock) == kBlock &&
           (scheme == "always" || scheme == "first" || scheme == "never");
  }
  const bool prepends = text_of(normalizers[0], "type") == "Prepend" && is_block(normalizers[0], "prepend");
  return normalizers.size() == (prepends ? 2u : 1u) && replaces_spaces(normalizers.back()) &&
         std::ranges::all_of(splits, splits_at_spaces);
}

// Added tokens are found in normalized text, so that of a normalizer that prepends U+2581 "<tool>" is found after a
// space alone.
bool normalizes_added(const JsonTokenizer& json) {
  return std::ranges::any_of(json.added, [&](const JsonTokenizer::Added& added) {
    const bool changes = json.normalizers.size() == 2 || added.text.find(' ') != std::string_view::npos;
    return added.kind == TokenKind::user_defined && added.normalized && !json.normalizers.empty() && changes;
  });
}

Result<std::unique_ptr<Tokenizer>> read_json_sentencepiece(const JsonTokenizer& json) {
  SentencePieceReader reader;
  reader.rules.prefix = json.normalizers.size() == 2 ? Prefix::every_stretch : Prefix::none;
  if (json.normalizers.empty()) read_metaspace(json.pre_tokenizers[0], reader.rules);
  for (const auto& added : json.added) {
    // U+2581 stands for itself in an added token, and for a space in any other.
    const bool marked = added.kind == TokenKind::user_defined && added.text.find(kBlock) != std::string_view::npos;
    CHECK_OK(reader.add_piece(added.id, added.text, 0, marked ? TokenKind::normal : added.kind));
    if (added.rules.any()) reader.vocabulary.rules.push_back(added.rules);
  }
  CHECK_OK(read_bpe(json, reader));
  reader.vocabulary.scores.clear();
  const std::string_view unknown = text_of(json.model, "unk_token");
  CHECK_OK(read_processors(json, reader.vocabulary));
  CHECK_OK(finish(reader.vocabulary, json.path));
  if (!reader.vocabulary.unknown && !unknown.empty()) {
    SpecialTokens specials;
    specials.build(reader.vocabulary.tokens);
    if (const int32_t id = specials.find(unknown); id >= 0) reader.vocabulary.unknown = id;
  }
  return make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
}

}  // namespace thimble
