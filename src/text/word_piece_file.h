// BERT's tokenizer where it stands in other files than tokenizer.json: a list of words, and what BERT's settings say.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace thimble {

struct WordPieceFile {
  std::vector<std::string> tokens;  // by id, as vocab.txt has them: "##ing" goes on with a word
  bool lowercase = true, spaces_chinese = true;
  std::optional<bool> strips_accents;  // unset: as `lowercase`
  std::string unknown = "[UNK]", begin = "[CLS]", end = "[SEP]", padding = "[PAD]", mask = "[MASK]";
};

// The same as a tokenizer.json, as transformers writes it.
std::string word_piece_json(const WordPieceFile& file);

}  // namespace thimble
