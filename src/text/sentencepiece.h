// SentencePiece's two models, byte-pair encoding and unigram, with fallback to bytes.
//
//   Paper   Kudo & Richardson 2018, arXiv:1808.06226; unigram: Kudo 2018, arXiv:1804.10959
//   BPE     the neighbouring pair whose union is the token of the highest score is merged, leftmost of equals first
//   Unigram the segmentation of the highest sum of scores (Viterbi)
//   Choice  spaces stay spaces: pieces are held with a space for U+2581. A U+2581 in a text is a space, as in
//           sentencepiece, tokenizers and llama.cpp, where a space becomes one; llama2.c keeps the two apart
#pragma once

#include <map>
#include <memory>
#include <string>

#include "text/charsmap.h"
#include "text/vocabulary.h"

namespace thimble {

struct SentencePieceRules {
  enum class Prefix { none, first_stretch, every_stretch };  // where a dummy space goes: between special tokens
  enum class Cut { none, before_word, before_space };

  bool unigram = false;
  bool by_rank = false;  // pairs merge by the vocabulary's merges, not by score (tokenizer.json's BPE)
  Prefix prefix = Prefix::every_stretch;
  bool prefix_unless_space = false;  // none before a stretch that starts with a space (tokenizer.json's Metaspace)
  bool marks_are_spaces = true;      // a U+2581 in a text
  bool remove_extra_spaces = false;  // none at the ends, one between words; a U+2581 is none
  bool removes_last_marks = false;   // of those at the end, U+2581 too (sentencepiece, not llama.cpp)
  Cut cut = Cut::none;               // none: chosen by what the pieces allow
  // Of byte-pair encoding as sentencepiece has it: unused pieces are merged like others, and at the end are what they
  // were merged of.
  bool takes_unused_apart = false;
  Charsmap charsmap;
  // User-defined symbols that are pieces of the text around them, as their file writes them (sentencepiece; llama.cpp
  // and tokenizers begin anew behind each). One that is written with a space, not U+2581, is left as it is when a text
  // is normalised, but then it is no piece of it any more.
  std::map<int32_t, std::string> symbols;
};

std::unique_ptr<Tokenizer> make_sentencepiece(Vocabulary vocabulary, SentencePieceRules rules);

class SentencePieceReader {
 public:
  Vocabulary vocabulary;
  SentencePieceRules rules;

  // `piece` as files write it: U+2581 for a space, <0x0A> for a byte.
  Result<void> add_piece(int32_t id, std::string_view piece, float score, TokenKind kind);
  void start_merges();
  Result<void> add_merge(std::string_view left, std::string_view right);

 private:
  SpecialTokens specials_;
  std::string text_, right_;
};

// U+2581 to a space, and back.
void spaces_of_blocks(std::string_view piece, std::string& text);
std::string blocks_of_spaces(std::string_view text);
// The byte that "<0x0A>" stands for, or -1.
int byte_of_name(std::string_view name);

}  // namespace thimble
