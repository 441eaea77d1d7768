// tokenizer_config.json, which stands beside a tokenizer in a Hugging Face folder: what the tokenizer's own file does
// not say.
#pragma once

#include <string>

#include "text/vocabulary.h"

namespace thimble {

// Takes the chat template, bos, eos and add_bos_token where the folder's files have them. A token is looked up among
// the vocabulary's special ones; without the files nothing changes.
Result<void> read_tokenizer_config(const std::string& folder, Vocabulary& vocabulary);
Result<void> write_tokenizer_config(const std::string& folder, const Vocabulary& vocabulary,
                                    const std::string& chat_template);

}  // namespace thimble
