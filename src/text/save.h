// Writing of tokenizers: a Hugging Face folder, or the tables of a GGUF file.
#pragma once

#include <string>

#include "files/tokenizer_tables.h"
#include "text/byte_bpe.h"
#include "text/sentencepiece.h"

namespace thimble {

// Of the heap for each token, while a tokenizer is saved.
constexpr int64_t kSaveBytesPerToken = 64;

Result<void> save_byte_bpe(const std::string& folder, const Vocabulary& vocabulary, const ByteBpeRules& rules,
                           const std::string& chat_template);
Result<TokenizerTables> byte_bpe_tables(const Vocabulary& vocabulary, const ByteBpeRules& rules,
                                        const std::string& chat_template);
Result<void> save_sentencepiece(const std::string& folder, const Vocabulary& vocabulary,
                                const SentencePieceRules& rules, const std::string& chat_template);
Result<TokenizerTables> sentencepiece_tables(const Vocabulary& vocabulary, const SentencePieceRules& rules,
                                             const std::string& chat_template);

}  // namespace thimble
