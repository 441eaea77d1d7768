// Byte-level byte-pair encoding, the tokenizer of GPT-2, Llama 3, Qwen2 and SmolLM.
//
//   Paper   Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.2
//   Rule    a piece of text starts as its bytes; the neighbouring pair that was merged earliest in training is merged,
//           leftmost first, until no pair is known
#pragma once

#include <memory>

#include "text/pre_tokenizer.h"
#include "text/vocabulary.h"

namespace thimble {

struct ByteBpeRules {
  PreTokenizer pre;
  bool ignores_merges = false;  // a piece that is a token as a whole is taken as it is
  bool prefix_space = false;    // a space before a stretch between special tokens that starts without one
  bool nfc = false;             // text is brought to Unicode's NFC first
};

// Tokens in the vocabulary are bytes, not the characters that files write for them.
std::unique_ptr<Tokenizer> make_byte_bpe(Vocabulary vocabulary, ByteBpeRules rules);

// Collects the vocabulary of such a file: tokens in GPT-2's characters, merges by their text.
class ByteBpeReader {
 public:
  Vocabulary vocabulary;

  // A normal token that is no sequence of byte characters cannot come from text; it is kept as `unused`.
  Result<void> add_token(int32_t id, std::string_view characters, TokenKind kind);
  void start_merges();
  // Merges of or to a special token are left out: such a token is found in the text before anything is merged.
  Result<void> add_merge(std::string_view left, std::string_view right);
  Result<void> add_merge(std::string_view both);  // with one space between

 private:
  SpecialTokens specials_;
  std::string left_, right_;
};

}  // namespace thimble
