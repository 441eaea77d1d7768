// The tokenizer in a GGUF file's metadata: tokenizer.ggml.model says which, gpt2 (byte-level BPE), llama
// and gemma4 (SentencePiece BPE, by score and by rank), t5 (SentencePiece unigram) or bert (WordPiece).
#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/warnings.h"
#include "files/gguf.h"
#include "text/byte_bpe.h"
#include "text/end_names.h"
#include "text/readers.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_fields.h"
#include "text/word_piece_file.h"

namespace thimble {
namespace {

Result<std::optional<int32_t>> token_id(const GgufFile& file, std::string_view key) {
  const auto id = TRY(file.find<int64_t>(key));
  if (!id) return std::nullopt;
  if (*id < INT32_MIN || *id > INT32_MAX) {
    return fail(ErrorCode::corrupt, "reading {}: {} is {}, which is no token id", file.path(), key, *id);
  }
  return static_cast<int32_t>(*id);
}

// Pre-tokenizers that leave texts whole, in raw UTF-8, where others cut them and write bytes as characters.
constexpr auto kRankedNames = std::to_array<std::string_view>({"gemma4", "granite-embed-multi-311m", "sarvam-moe"});

Result<void> read_ends(const GgufFile& file, Vocabulary& vocabulary) {
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (const auto id = TRY(token_id(file, key))) vocabulary.ends.push_back(*id);
  }
  if (file.find_value("tokenizer.ggml.eos_token_ids")) {
    for (const int32_t id : TRY(file.integers("tokenizer.ggml.eos_token_ids"))) vocabulary.ends.push_back(id);
  }
  SpecialTokens specials;
  specials.build(vocabulary.tokens);
  const auto id_of = [&](std::string_view name) {
    const int32_t id = specials.find(name);
    return id >= 0 ? id : vocabulary.tokens.find(name);
  };
  for (const std::string_view name : end_names([&](std::string_view n) { return id_of(n) >= 0; }))
    vocabulary.ends.push_back(id_of(name));
  for (const InfillEnd& end : infill_ends()) {
    if (const auto id = TRY(token_id(file, end.key))) {
      vocabulary.ends.push_back(*id);
      continue;
    }
    for (const std::string_view name : end.names)
      if (id_of(name) >= 0) vocabulary.ends.push_back(id_of(name));
  }
  return {};
}

// Everything but the tokens.
Result<void> read_settings(const GgufFile& file, Vocabulary& vocabulary) {
  vocabulary.bos = TRY(token_id(file, "tokenizer.ggml.bos_token_id"));
  vocabulary.eos = TRY(token_id(file, "tokenizer.ggml.eos_token_id"));
  vocabulary.unknown = TRY(token_id(file, "tokenizer.ggml.unknown_token_id"));
  vocabulary.padding = TRY(token_id(file, "tokenizer.ggml.padding_token_id"));
  vocabulary.adds_bos = TRY(file.get_or<bool>("tokenizer.ggml.add_bos_token", vocabulary.adds_bos));
  vocabulary.adds_eos = TRY(file.get_or<bool>("tokenizer.ggml.add_eos_token", false));
  vocabulary.chat_template = TRY(file.get_or<std::string>("tokenizer.chat_template", ""));
  return {};
}

Result<std::vector<int32_t>> read_kinds(const GgufFile& file, uint64_t tokens) {
  if (!file.find_value("tokenizer.ggml.token_type")) return std::vector<int32_t>(tokens, 1);
  auto kinds = TRY(file.integers("tokenizer.ggml.token_type"));
  if (kinds.size() != tokens) {
    return fail(ErrorCode::corrupt, "reading {}: tokenizer.ggml.token_type has {} entries for {} tokens", file.path(),
                kinds.size(), tokens);
  }
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] == 0) kinds[i] = 1;  // undefined, which llama.cpp takes as ordinary text
    if (kinds[i] < 1 || kinds[i] > 6) {
      return fail(ErrorCode::corrupt, "reading {}: token {} is of type {}, expected 1 to 6", file.path(), i, kinds[i]);
    }
  }
  return kinds;
}

// Rows of the embedding that no token has are filled up with these by all converters; they are no text.
bool is_filler(int32_t id, std::string_view token, TokenKind kind) {
  return kind == TokenKind::unused && token == fmt::format("[PAD{}]", id);
}

Result<uint64_t> count_tokens(const GgufFile& file) {
  const GgufArray tokens = TRY(file.get<GgufArray>("tokenizer.ggml.tokens"));
  if (tokens.count == 0 || tokens.count > static_cast<uint64_t>(TokenTable::kMaxTokens)) {
    return fail(ErrorCode::corrupt, "reading {}: tokenizer.ggml.tokens has {} entries, expected 1 to {}", file.path(),
                tokens.count, TokenTable::kMaxTokens);
  }
  return tokens.count;
}

Result<std::unique_ptr<Tokenizer>> read_byte_bpe(const GgufFile& file) {
  if (!file.find_value("tokenizer.ggml.pre"))
    warn(
        fmt::format("{} does not name its pre-tokenizer (tokenizer.ggml.pre): llama.cpp's default pattern is taken, "
                    "which may cut words otherwise than the model was trained with",
                    file.path()));
  const std::string pre = TRY(file.get_or<std::string>("tokenizer.ggml.pre", "default"));
  const NamedPattern* named = TRY(find_named_pattern(pre));
  ByteBpeReader reader;
  ByteBpeRules rules{TRY(PreTokenizer::make(named->patterns)), named->ignores_merges};
  reader.vocabulary.adds_bos = named->adds_bos;
  CHECK_OK(read_settings(file, reader.vocabulary));
  const GgufArray tokens = TRY(file.get<GgufArray>("tokenizer.ggml.tokens"));
  const GgufArray merges = TRY(file.get_or<GgufArray>("tokenizer.ggml.merges", GgufArray{}));  // none: single bytes
  {
    const auto kinds = TRY(read_kinds(file, TRY(count_tokens(file))));
    reader.vocabulary.tokens.reserve(tokens.count,
                                     tokens.bytes > 8 * tokens.count ? tokens.bytes - 8 * tokens.count : 0);
    int32_t id = 0;
    CHECK_OK(file.for_each_string("tokenizer.ggml.tokens", [&](std::string_view token) {
      const auto at = id++;
      const auto kind = static_cast<TokenKind>(kinds[static_cast<size_t>(at)]);
      return is_filler(at, token, kind) ? Result<void>() : reader.add_token(at, token, kind);
    }));
  }
  reader.start_merges();
  if (merges.count > static_cast<uint64_t>(TokenTable::kMaxTokens))
    return fail(ErrorCode::corrupt, "reading {}: tokenizer.ggml.merges has {} entries, at most {} are taken",
                file.path(), merges.count, TokenTable::kMaxTokens);
  reader.vocabulary.merges.reserve(merges.count);
  if (merges.count > 0)
    CHECK_OK(
        file.for_each_string("tokenizer.ggml.merges", [&](std::string_view merge) { return reader.add_merge(merge); }));
  CHECK_OK(finish(reader.vocabulary, file.path()));
  CHECK_OK(read_ends(file, reader.vocabulary));
  return make_byte_bpe(std::move(reader.vocabulary), std::move(rules));
}

Result<std::unique_ptr<Tokenizer>> read_sentencepiece(const GgufFile& file, bool unigram) {
  SentencePieceReader reader;
  reader.vocabulary.adds_bos = !unigram;
  CHECK_OK(read_settings(file, reader.vocabulary));
  reader.rules.unigram = unigram;
  const bool prefix = TRY(file.get_or<bool>("tokenizer.ggml.add_space_prefix", true));
  if (!prefix) reader.rules.prefix = SentencePieceRules::Prefix::none;
  reader.rules.remove_extra_spaces = TRY(file.get_or<bool>("tokenizer.ggml.remove_extra_whitespaces", false));
  if (file.find_value("tokenizer.ggml.precompiled_charsmap")) {
    const auto bytes = TRY(file.integers("tokenizer.ggml.precompiled_charsmap"));
    std::string map;
    for (int32_t byte : bytes) map += static_cast<char>(byte);
    reader.rules.charsmap = TRY(Charsmap::parse(map));
  }
  const uint64_t count = TRY(count_tokens(file));
  const auto kinds = TRY(read_kinds(file, count));
  const auto scores = TRY(file.floats("tokenizer.ggml.scores"));
  if (scores.size() != count) {
    return fail(ErrorCode::corrupt, "reading {}: tokenizer.ggml.scores has {} entries for {} tokens", file.path(),
                scores.size(), count);
  }
  int32_t id = 0;
  CHECK_OK(file.for_each_string("tokenizer.ggml.tokens", [&](std::string_view token) {
    const auto at = static_cast<size_t>(id);
    const auto kind = static_cast<TokenKind>(kinds[at]);
    const int32_t own = id++;
    return is_filler(own, token, kind) ? Result<void>() : reader.add_piece(own, token, scores[at], kind);
  }));
  CHECK_OK(finish(reader.vocabulary, file.path()));
  CHECK_OK(read_ends(file, reader.vocabulary));
  return make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
}

// BPE over whole texts with U+2581 for spaces, whose pairs merge by rank: what tokenizer.json has for Gemma.
Result<std::unique_ptr<Tokenizer>> read_ranked_sentencepiece(const GgufFile& file, bool begins) {
  SentencePieceReader reader;
  reader.rules.prefix = SentencePieceRules::Prefix::none;
  reader.rules.by_rank = true;
  CHECK_OK(read_settings(file, reader.vocabulary));
  if (begins && file.find_value("tokenizer.ggml.add_bos_token") && !reader.vocabulary.adds_bos)
    warn(
        fmt::format("{}: tokenizer.ggml.add_bos_token is false, which the first conversions of gemma4 had by mistake: "
                    "texts begin with the token all the same, as in llama.cpp; --no-bos leaves it out",
                    file.path()));
  reader.vocabulary.adds_bos |= begins;
  const auto kinds = TRY(read_kinds(file, TRY(count_tokens(file))));
  int32_t id = 0;
  CHECK_OK(file.for_each_string("tokenizer.ggml.tokens", [&](std::string_view token) {
    const int32_t own = id++;
    auto kind = static_cast<TokenKind>(kinds[static_cast<size_t>(own)]);
    if (kind == TokenKind::normal && byte_of_name(token) >= 0) kind = TokenKind::byte;
    return is_filler(own, token, kind) ? Result<void>() : reader.add_piece(own, token, 0, kind);
  }));
  reader.start_merges();
  CHECK_OK(file.for_each_string("tokenizer.ggml.merges", [&](std::string_view merge) -> Result<void> {
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos)
      return fail(ErrorCode::corrupt, "reading {}: the merge '{}' has no space between its halves", file.path(), merge);
    return reader.add_merge(merge.substr(0, space), merge.substr(space + 1));
  }));
  reader.vocabulary.scores.clear();
  CHECK_OK(finish(reader.vocabulary, file.path()));
  CHECK_OK(read_ends(file, reader.vocabulary));
  return make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
}

// Words begin with U+2581 there, and what goes on with a word is written bare; llama.cpp makes all text small letters
// where the file does not say.
Result<std::unique_ptr<Tokenizer>> read_word_piece(const GgufFile& file) {
  WordPieceFile words;
  words.lowercase = TRY(file.get_or<bool>("tokenizer.ggml.normalizer.lowercase", true));
  words.strips_accents = TRY(file.find<bool>("tokenizer.ggml.normalizer.strip_accents"));
  const auto kinds = TRY(read_kinds(file, TRY(count_tokens(file))));
  CHECK_OK(file.for_each_string("tokenizer.ggml.tokens", [&](std::string_view token) -> Result<void> {
    constexpr std::string_view kBlock = "\u2581";
    const auto kind = static_cast<TokenKind>(kinds[words.tokens.size()]);
    const bool word = token.starts_with(kBlock), literal = kind == TokenKind::control || kind == TokenKind::unknown;
    if (word) token.remove_prefix(kBlock.size());
    words.tokens.push_back(fmt::format("{}{}", word || literal ? "" : "##", token));
    return {};
  }));
  const auto name = [&](const char* key, std::string& to) -> Result<void> {
    const auto id = TRY(token_id(file, key));
    if (id && *id >= 0 && static_cast<size_t>(*id) < words.tokens.size()) to = words.tokens[static_cast<size_t>(*id)];
    return {};
  };
  CHECK_OK(name("tokenizer.ggml.unknown_token_id", words.unknown));
  CHECK_OK(name("tokenizer.ggml.padding_token_id", words.padding));
  CHECK_OK(name("tokenizer.ggml.mask_token_id", words.mask));
  CHECK_OK(name("tokenizer.ggml.seperator_token_id", words.end));
  CHECK_OK(name("tokenizer.ggml.cls_token_id", words.begin));
  return parse_tokenizer_json(file.path(), word_piece_json(words));
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_gguf_tokenizer(const std::string& path) {
  const GgufFile file = TRY(GgufFile::open(path));
  const std::string model = TRY(file.get<std::string>("tokenizer.ggml.model"));
  CHECK_OK(check_fields(metadata_under(file, "tokenizer."), gguf_tokenizer_fields(), path, "tokenizer."));
  if (model == "gemma4") return read_ranked_sentencepiece(file, true);
  if (model == "gpt2") {
    const std::string pre = TRY(file.get_or<std::string>("tokenizer.ggml.pre", "default"));
    const bool ranked = std::ranges::find(kRankedNames, pre) != kRankedNames.end();
    return ranked ? read_ranked_sentencepiece(file, pre == "gemma4") : read_byte_bpe(file);
  }
  if (model == "llama") return read_sentencepiece(file, false);
  if (model == "t5") return read_sentencepiece(file, true);
  if (model == "bert") return read_word_piece(file);
  return fail(ErrorCode::unsupported,
              "reading {}: the tokenizer '{}' is not supported; supported are gpt2 (byte-level BPE), llama and gemma4 "
              "(SentencePiece BPE), t5 (SentencePiece unigram) and bert (WordPiece)",
              path, model);
}

}  // namespace thimble
