// tokenizer_config.json, which stands beside a tokenizer in a Hugging Face folder: what the tokenizer's own file does
// not say.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "text/vocabulary.h"

namespace thimble {

// Takes the chat template, bos, eos and add_bos_token where the folder's files have them. A token is looked up among
// the vocabulary's special ones; without the files nothing changes.
Result<void> read_tokenizer_config(const std::string& folder, Vocabulary& vocabulary);

// Tokens beside the vocabulary: added_tokens.json, added_tokens_decoder of tokenizer_config.json (which wins), and
// additional_special_tokens and the like where these name one of them. Sorted by id.
struct AddedToken {
  int32_t id = -1;
  std::string text;
  bool special = true, left_strip = false, right_strip = false, single_word = false;
  bool normalized = false;
};
Result<std::vector<AddedToken>> read_added_tokens(const std::string& folder);
// Of added_tokens_decoder alone, by id: beside a tokenizer.json it adds tokens and has the last word on their flags.
Result<std::map<int32_t, AddedToken>> read_added_decoder(const std::string& folder);
// Into a vocabulary that has none of their ids, or the same text for them.
Result<void> add_tokens(std::span<const AddedToken> added, Vocabulary& vocabulary);

// What else tokenizer_config.json says of how text is cut.
struct TokenizerSettings {
  std::string tokenizer_class;  // "" without one
  std::optional<bool> add_prefix_space, legacy;
};
Result<TokenizerSettings> read_tokenizer_settings(const std::string& folder);

Result<void> write_tokenizer_config(const std::string& folder, const Vocabulary& vocabulary,
                                    const std::string& chat_template);

}  // namespace thimble
