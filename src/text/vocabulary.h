// What every tokenizer of thimble has in common: the tokens, the special ones among them, and the walk over a text
// that leaves only ordinary stretches to the algorithm.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "text/merge_table.h"
#include "text/special_tokens.h"
#include "text/token_table.h"
#include "text/tokenizer.h"

namespace thimble {

// Filled by the readers of files, then moved into a tokenizer.
struct Vocabulary {
  TokenTable tokens;  // bytes as they stand in running text
  MergeTable merges;
  std::vector<float> scores;      // SentencePiece's, by id; else empty
  std::vector<TokenRules> rules;  // of the special tokens that have some
  std::vector<int32_t> symbols;   // user-defined tokens that the algorithm finds itself, within a stretch; ascending
  std::optional<int32_t> bos, eos, unknown, padding;
  std::vector<int32_t> ends;  // beside eos
  bool adds_bos = false;
  bool adds_eos = false;                   // of `tokenize`; examples end with eos by themselves
  std::vector<int32_t> beginning, ending;  // what stands before and after a text, where that is more than bos and eos
  std::string chat_template;
  // Special tokens by their names in tokenizer_config.json; without that file, those above.
  std::optional<std::vector<std::pair<std::string, std::string>>> token_names;
};

class VocabularyTokenizer : public Tokenizer {
 public:
  Result<void> encode(std::string_view text, const EncodeOptions& options, std::vector<int32_t>& ids) final;
  Result<size_t> encode_part(std::string_view text, const EncodeOptions& options, std::vector<int32_t>& ids) final;
  std::string_view bytes(int32_t id) const final { return vocabulary_.tokens.bytes(id); }
  size_t most_bytes_per_token() const override { return longest_; }
  int32_t vocab_size() const final { return vocabulary_.tokens.size(); }
  bool is_special(int32_t id) const final;
  bool is_apart(int32_t id) const final;
  std::optional<int32_t> find(std::string_view token) const final;
  std::optional<int32_t> first_special(std::string_view text) const final;

 protected:
  explicit VocabularyTokenizer(Vocabulary vocabulary);
  // Of a stretch of ordinary text: its ids, as far as they are certain, and the bytes they stand for.
  struct Stretch {
    bool first = false;   // nothing before it in the text
    bool starts = false;  // nothing before it in the text, or a special token
    bool more = false;    // the text goes on in a way not known yet
    size_t offset = 0;    // in the text, for messages
  };
  virtual Result<size_t> encode_stretch(std::string_view text, const Stretch& stretch, std::vector<int32_t>& ids) = 0;

  Vocabulary vocabulary_;

 private:
  SpecialTokens::Hit next_special(std::string_view text, size_t at, const EncodeOptions& options, bool more) const;
  Result<size_t> walk(std::string_view text, const EncodeOptions& options, bool more, std::vector<int32_t>& ids);
  SpecialTokens specials_;
  size_t longest_ = 0;  // bytes of a token, special ones too
};

// "byte 0xC0 at offset 3 is not in the vocabulary ..."
Failure missing_byte(unsigned char byte, size_t offset);

// Refuses a word of more than kLongestWord bytes.
Result<void> check_word(size_t bytes, size_t offset);

// Checks that bos, eos and the others are ids of the vocabulary, and indexes it.
Result<void> finish(Vocabulary& vocabulary, const std::string& path);

}  // namespace thimble
