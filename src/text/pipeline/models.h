// The models of tokenizer.json, which turn a piece of text into ids.
//
//   BPE        Sennrich et al. 2016, arXiv:1508.07909: characters, merged by rank, with prefixes and suffixes of words
//   WordPiece  Schuster & Nakajima 2012; the longest token that fits is taken from the left (Devlin et al. 2018)
//   Unigram    Kudo 2018, arXiv:1804.10959: the segmentation of the highest sum of scores (Viterbi), in double
//   WordLevel  a piece is a token or unknown
#pragma once

#include <memory>

#include "text/json_tokenizer.h"
#include "text/token_table.h"

namespace thimble::pipeline {

class Model {
 public:
  virtual ~Model() = default;
  // Appends. What the vocabulary cannot express is the unknown token, as in tokenizers; an error where there is none.
  virtual Result<void> encode(std::string_view piece, std::vector<int32_t>& ids) = 0;
  // Tokens as the file writes them: "##ing".
  const TokenTable& tokens() const { return tokens_; }

 protected:
  TokenTable tokens_;
};

Result<std::unique_ptr<Model>> read_model(const JsonTokenizer& json);

// One reader each; the table of them is in models.cpp.
Result<std::unique_ptr<Model>> read_bpe(const JsonTokenizer& json);
Result<std::unique_ptr<Model>> read_unigram(const JsonTokenizer& json);
Result<std::unique_ptr<Model>> read_word_piece(const JsonTokenizer& json);
Result<std::unique_ptr<Model>> read_word_level(const JsonTokenizer& json);

// "vocab": {"token": id}, into `tokens`, all of them normal, and indexed.
Result<void> read_vocabulary(const JsonTokenizer& json, TokenTable& tokens);
// The id of the token that option `key` names, or -1 where there is no such option.
Result<int32_t> token_of(const JsonTokenizer& json, std::string_view key, const TokenTable& tokens);
Failure unknown_piece(std::string_view piece);

}  // namespace thimble::pipeline
