// What becomes of the fields of tokenizer_config.json and of the keys of a tokenizer in GGUF.
#pragma once

#include <span>

#include "files/field_notes.h"

namespace thimble {

// Of transformers' PreTrainedTokenizerBase, and of the classes that language models have.
std::span<const FieldNote> tokenizer_config_fields();
// As llama.cpp has them, without "tokenizer." before them.
std::span<const FieldNote> gguf_tokenizer_fields();

}  // namespace thimble
