#include "text/json_tokenizer.h"
#include "text/sentencepiece.h"

namespace thimble {
namespace {

namespace dom = simdjson::dom;
using Prefix = SentencePieceRules::Prefix;

constexpr std::string_view kBlock = "\u2581";

Result<void> read_normalizers(const JsonTokenizer& json, SentencePieceRules& rules) {
  for (const dom::object& part : json.normalizers) {
    const std::string_view type = text_of(part, "type");
    dom::object pattern;
    const bool has_pattern = part.at_key("pattern").get(pattern) == simdjson::SUCCESS;
    if (type == "Prepend" && text_of(part, "prepend") == kBlock) {
      rules.prefix = Prefix::every_stretch;
    } else if (type == "Precompiled") {
      rules.charsmap = TRY(Charsmap::parse(TRY(decode_base64(text_of(part, "precompiled_charsmap")))));
    } else if (type == "Replace" && has_pattern && text_of(pattern, "String") == " " &&
               text_of(part, "content") == kBlock) {
      continue;  // spaces stay spaces here
    } else if (type == "Replace" && has_pattern && text_of(part, "content").size() <= kBlock.size() &&
               (text_of(pattern, "Regex") == "^ +| +$" || text_of(pattern, "Regex") == " {2,}")) {
      rules.remove_extra_spaces = true;
    } else {
      return unsupported_part(json, "normalizer", type,
                              "Prepend of U+2581, Replace of a space by U+2581 and Precompiled");
    }
  }
  return {};
}

Result<void> read_pre_tokenizers(const JsonTokenizer& json, SentencePieceRules& rules) {
  for (const dom::object& part : json.pre_tokenizers) {
    const std::string_view type = text_of(part, "type");
    dom::object pattern;
    if (type == "Split" && part.at_key("pattern").get(pattern) == simdjson::SUCCESS &&
        text_of(pattern, "String") == " ") {
      continue;  // Gemma's, without effect: no space is left by then
    }
    if (type != "Metaspace") return unsupported_part(json, "pre-tokenizer", type, "Metaspace and none");
    const bool legacy = flag_of(part, "add_prefix_space", true);
    const std::string_view scheme = text_of(part, "prepend_scheme", legacy ? "always" : "never");
    rules.prefix = scheme == "always"  ? Prefix::every_stretch
                   : scheme == "first" ? Prefix::first_stretch
                                       : Prefix::none;
    rules.prefix_unless_space = true;
    if (flag_of(part, "split", true)) rules.cut = SentencePieceRules::Cut::before_space;
  }
  return {};
}

Result<void> read_unigram(const JsonTokenizer& json, SentencePieceReader& reader) {
  dom::array vocab;
  if (json.model.at_key("vocab").get(vocab) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: the Unigram model has no list 'vocab'", json.path);
  }
  const bool bytes = flag_of(json.model, "byte_fallback", false);
  int64_t unknown = -1;
  if (json.model.at_key("unk_id").get(unknown) == simdjson::SUCCESS) {
    reader.vocabulary.unknown = static_cast<int32_t>(unknown);
  }
  int32_t id = 0;
  for (const dom::element item : vocab) {
    dom::array pair;
    std::string_view piece;
    double score = 0;
    if (item.get(pair) != simdjson::SUCCESS || pair.at(0).get(piece) != simdjson::SUCCESS ||
        pair.at(1).get(score) != simdjson::SUCCESS) {
      return fail(ErrorCode::corrupt, "reading {}: entry {} of the vocabulary is not [piece, score]", json.path, id);
    }
    const TokenKind kind = bytes && byte_of_name(piece) >= 0 ? TokenKind::byte
                           : id == unknown                   ? TokenKind::unknown
                                                             : TokenKind::normal;
    if (!json.is_added(id)) CHECK_OK(reader.add_piece(id, piece, static_cast<float>(score), kind));
    ++id;
  }
  return {};
}

Result<void> read_bpe(const JsonTokenizer& json, SentencePieceReader& reader) {
  if (flag_of(json.model, "ignore_merges", false)) {
    return unsupported_part(json, "option", "ignore_merges", "it with byte-level BPE only");
  }
  dom::object vocab;
  if (json.model.at_key("vocab").get(vocab) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: the BPE model has no object 'vocab'", json.path);
  }
  const bool bytes = flag_of(json.model, "byte_fallback", false);
  for (const auto [token, value] : vocab) {
    int64_t id = -1;
    if (value.get(id) != simdjson::SUCCESS || id < 0 || id >= TokenTable::kMaxTokens) {
      return fail(ErrorCode::corrupt, "reading {}: the id of '{}' is no number from 0 to {}", json.path, token,
                  TokenTable::kMaxTokens - 1);
    }
    const TokenKind kind = bytes && byte_of_name(token) >= 0 ? TokenKind::byte : TokenKind::normal;
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

Result<std::unique_ptr<Tokenizer>> read_json_sentencepiece(const JsonTokenizer& json) {
  SentencePieceReader reader;
  reader.rules.unigram = text_of(json.model, "type", "BPE") == "Unigram";
  reader.rules.prefix = Prefix::none;
  CHECK_OK(read_normalizers(json, reader.rules));
  CHECK_OK(read_pre_tokenizers(json, reader.rules));
  for (const auto& added : json.added) {
    CHECK_OK(reader.add_piece(added.id, added.text, 0, added.kind));
    if (added.strip.left || added.strip.right) reader.vocabulary.strips.push_back(added.strip);
  }
  CHECK_OK(reader.rules.unigram ? read_unigram(json, reader) : read_bpe(json, reader));
  if (!reader.rules.unigram) reader.vocabulary.scores.clear();
  CHECK_OK(read_processors(json, reader.vocabulary));
  CHECK_OK(finish(reader.vocabulary, json.path));
  return make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
}

}  // namespace thimble
