#include "text/pipeline/models.h"

#include <algorithm>
#include <array>

#include "text/pipeline/unicode.h"

namespace thimble::pipeline {
namespace {

struct Entry {
  std::string_view type;
  Result<std::unique_ptr<Model>> (*read)(const JsonTokenizer& json);
};
constexpr std::array kModels{
    Entry{"BPE", read_bpe},
    Entry{"Unigram", read_unigram},
    Entry{"WordLevel", read_word_level},
    Entry{"WordPiece", read_word_piece},
};

class WordLevel final : public Model {
 public:
  WordLevel(TokenTable tokens, int32_t unknown) : unknown_(unknown) { tokens_ = std::move(tokens); }

  Result<void> encode(std::string_view piece, std::vector<int32_t>& ids) override {
    const int32_t id = tokens_.find(piece);
    if (id < 0 && unknown_ < 0) return unknown_piece(piece);
    ids.push_back(id < 0 ? unknown_ : id);
    return {};
  }

 private:
  int32_t unknown_;
};

class WordPiece final : public Model {
 public:
  struct Rules {
    int32_t unknown = -1;
    std::string prefix;  // of a token that goes on with a word
    int64_t most_characters = 100;
  };
  WordPiece(TokenTable tokens, Rules rules) : rules_(std::move(rules)) { tokens_ = std::move(tokens); }

  Result<void> encode(std::string_view piece, std::vector<int32_t>& ids) override {
    const size_t before = ids.size();
    if (characters(piece) > rules_.most_characters || !longest_matches(piece, ids)) {
      ids.resize(before);
      if (rules_.unknown < 0) return unknown_piece(piece);
      ids.push_back(rules_.unknown);
    }
    return {};
  }

 private:
  static int64_t characters(std::string_view text) {
    return std::ranges::count_if(text, [](char byte) { return (static_cast<unsigned char>(byte) & 0xc0) != 0x80; });
  }

  bool longest_matches(std::string_view piece, std::vector<int32_t>& ids) {
    for (size_t begin = 0; begin < piece.size();) {
      const size_t prefix = begin > 0 ? rules_.prefix.size() : 0;
      candidate_.assign(rules_.prefix, 0, prefix);
      candidate_ += piece.substr(begin, tokens_.longest());
      int32_t id = -1;
      while (candidate_.size() > prefix && (id = tokens_.find(candidate_)) < 0) candidate_.pop_back();
      if (id < 0) return false;
      ids.push_back(id);
      begin += candidate_.size() - prefix;
    }
    return true;
  }

  Rules rules_;
  std::string candidate_;
};

}  // namespace

Result<std::unique_ptr<Model>> read_model(const JsonTokenizer& json) {
  const auto entry = TRY(find_part(json, "model", kModels, json.model_type()));
  return entry->read(json);
}

Result<std::unique_ptr<Model>> read_word_level(const JsonTokenizer& json) {
  TokenTable tokens;
  CHECK_OK(read_vocabulary(json, tokens));
  const int32_t unknown = TRY(token_of(json, "unk_token", tokens));
  return std::make_unique<WordLevel>(std::move(tokens), unknown);
}

Result<std::unique_ptr<Model>> read_word_piece(const JsonTokenizer& json) {
  TokenTable tokens;
  CHECK_OK(read_vocabulary(json, tokens));
  WordPiece::Rules rules{TRY(token_of(json, "unk_token", tokens)),
                         std::string(text_of(json.model, "continuing_subword_prefix", "##"))};
  std::ignore = json.model.at_key("max_input_chars_per_word").get(rules.most_characters);
  return std::make_unique<WordPiece>(std::move(tokens), std::move(rules));
}

Result<void> read_vocabulary(const JsonTokenizer& json, TokenTable& tokens) {
  JsonTokenizer::Object vocab;
  if (json.model.at_key("vocab").get(vocab) != simdjson::SUCCESS)
    return fail(ErrorCode::corrupt, "reading {}: the {} model has no object 'vocab'", json.path, json.model_type());
  for (const auto [token, value] : vocab) {
    int64_t id = -1;
    if (value.get(id) != simdjson::SUCCESS || id < 0 || id >= TokenTable::kMaxTokens)
      return fail(ErrorCode::corrupt, "reading {}: the id of '{}' is no number from 0 to {}", json.path, token,
                  TokenTable::kMaxTokens - 1);
    CHECK_OK(tokens.set(static_cast<int32_t>(id), token, TokenKind::normal));
  }
  tokens.index();
  return {};
}

Result<int32_t> token_of(const JsonTokenizer& json, std::string_view key, const TokenTable& tokens) {
  const std::string_view text = text_of(json.model, key);
  if (text.empty()) return -1;
  if (const int32_t id = tokens.find(text); id >= 0) return id;
  return fail(ErrorCode::corrupt, "reading {}: the {} '{}' is not in the vocabulary", json.path, key, text);
}

Failure unknown_piece(std::string_view piece) {
  return fail(ErrorCode::invalid_argument,
              "tokenizing: '{}' cannot be expressed in this vocabulary, which has no token for what is unknown; remove "
              "it from the text",
              piece.substr(0, 60));
}

}  // namespace thimble::pipeline
