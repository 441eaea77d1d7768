// The decoders of tokenizer.json: tokens back to text.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "text/json_tokenizer.h"

namespace thimble::pipeline {

struct Decoder {
  // Of one token, which may be the first or the last.
  std::function<void(std::string& token, bool first, bool last)> each;
  bool joins = false;    // from here on the tokens are one text
  bool at_ends = false;  // every token counts as first and last
};

class Decoders {
 public:
  static Result<Decoders> read(const JsonTokenizer& json);
  std::string decode(std::vector<std::string> tokens) const;
  // What a token becomes within a longer text.
  std::string inner(std::string token) const;

 private:
  std::vector<Decoder> steps_;
};

}  // namespace thimble::pipeline
