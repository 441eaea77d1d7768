// What the writers of tokenizers share.
#pragma once

#include <functional>
#include <string>

#include "text/json_output.h"
#include "text/vocabulary.h"

namespace thimble {

// Values of tokenizer.json.
std::string added_tokens_json(const Vocabulary& vocabulary);
std::string post_processor_json(const Vocabulary& vocabulary, std::string_view otherwise);
// Of what a GGUF file cannot say of a tokenizer.
void warn_of_loss(std::string_view what);
// All but model, pre, scores and merges. `text` is a token as GGUF writes it.
void fill_tables(const Vocabulary& vocabulary, const std::string& chat_template, TokenizerTables& tables,
                 const std::function<std::string(int32_t)>& text);

}  // namespace thimble
