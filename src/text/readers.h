// One reader a file format; the table of them is in tokenizer.cpp.
#pragma once

#include <memory>
#include <string>

#include "text/tokenizer.h"

namespace thimble {

// Puts the file's name before an error of what does not know which file it is of.
Failure in_file(const std::string& path, const Error& error);

Result<std::unique_ptr<Tokenizer>> read_gguf_tokenizer(const std::string& path);
Result<std::unique_ptr<Tokenizer>> read_tokenizer_json(const std::string& path);
// Of a text made on the spot; `path` stands in messages, and says where files lie beside it.
Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(const std::string& path, std::string text);
Result<std::unique_ptr<Tokenizer>> read_tokenizer_model(const std::string& path);
Result<std::unique_ptr<Tokenizer>> read_vocab_txt(const std::string& path);
Result<std::unique_ptr<Tokenizer>> read_tok512(const std::string& path);
Result<std::unique_ptr<Tokenizer>> read_vocab_and_merges(const std::string& vocab, const std::string& merges);

}  // namespace thimble
