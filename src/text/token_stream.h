// The text of tokens as they come: a character split over tokens is held until it is whole.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "text/tokenizer.h"

namespace thimble {

class TokenStream {
 public:
  // What comes goes on from `before`. The tokenizer must outlive the stream.
  TokenStream(const Tokenizer& tokenizer, std::span<const int32_t> before);

  // The text that this token makes whole; it may be empty. Valid until the next call.
  std::string_view push(int32_t id);
  // What is left at the end: bytes that never became a character.
  std::string_view rest();

 private:
  const Tokenizer& tokenizer_;
  bool trims_first_;  // the first token's space is only SentencePiece's dummy prefix
  std::string held_, whole_;
};

}  // namespace thimble
