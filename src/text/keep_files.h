// The files of a Hugging Face folder that belong to its tokenizer, and how the model is meant to generate.
#pragma once

#include <array>
#include <string>

#include "text/tokenizer.h"

namespace thimble {

inline constexpr std::array kTokenizerFiles = {
    "tokenizer.json",          "tokenizer.model",        "vocab.json",   "merges.txt",          "vocab.txt",
    "tokenizer_config.json",   "added_tokens.json",      "spiece.model", "chat_template.jinja", "chat_template.json",
    "special_tokens_map.json", "sentencepiece.bpe.model"};
inline constexpr const char* kGenerationConfig = "generation_config.json";
inline constexpr const char* kChatTemplate = "chat_template.jinja";

Result<void> copy_file(const std::string& from, const std::string& to);

// Into the folder `to`: the files of the tokenizer byte for byte where `from` is a folder, else what `tokenizer` makes;
// a chat template that is not theirs beside them; and of `model`, where that is a folder, its generation_config.json.
Result<void> keep_tokenizer(const Tokenizer& tokenizer, const std::string& from, const std::string& model,
                            const std::string& to);

}  // namespace thimble
