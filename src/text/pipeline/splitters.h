// The pre-tokenizers of tokenizer.json: they cut a text into the pieces within which a model works, and may rewrite
// them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "text/json_tokenizer.h"
#include "text/pattern.h"

namespace thimble::pipeline {

struct Piece {
  std::string text;
  bool first = false;  // it begins where the whole text does
  bool joins = false;  // it goes on from earlier text: no space is put before it
};
using Pieces = std::vector<Piece>;
using Splitter = std::function<Result<void>(Pieces& pieces)>;

struct Splitters {
  std::vector<Splitter> steps;
  bool cuts_at_spaces = false;  // no piece reaches from one side of a single space to the other
};
// In their order; a type that is not known is refused by name.
Result<Splitters> read_splitters(const JsonTokenizer& json);

// "pattern": {"String": ...} or {"Regex": ...}, as one regular expression.
Result<Pattern> read_pattern(const JsonTokenizer& json, const JsonTokenizer::Object& part);

}  // namespace thimble::pipeline
