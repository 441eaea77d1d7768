// A tokenizer.json as tokenizers itself works through it: normalizers, pre-tokenizers, a model, decoders. Whatever is
// neither plain byte-level BPE nor plain SentencePiece BPE is one of these (BERT, T5, XLM-R, CLIP, word lists).
//
//   Choice  what is not UTF-8 is refused, as this whole way of working is one on characters
#pragma once

#include <memory>
#include <string>

#include "text/json_tokenizer.h"

namespace thimble::pipeline {

// `text` is the file's, kept where it is no file that could be copied when the tokenizer is saved ("" else).
// `plain`: one that GGUF has words for and that differs in added tokens alone, if there is one.
Result<std::unique_ptr<Tokenizer>> read(const JsonTokenizer& json, std::string text,
                                        std::unique_ptr<Tokenizer> plain = nullptr);

}  // namespace thimble::pipeline
