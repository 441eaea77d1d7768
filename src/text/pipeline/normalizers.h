// The normalizers of tokenizer.json: what is done to a text before it is cut.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "text/json_tokenizer.h"

namespace thimble::pipeline {

// Where a stretch of text lies: nothing before it, nothing after it. Only `Strip` asks.
struct Edges {
  bool begins = true, ends = true;
};
using Normalizer = std::function<Result<void>(std::string& text, Edges edges)>;

// In their order; a type that is not known is refused by name.
Result<std::vector<Normalizer>> read_normalizers(const JsonTokenizer& json);

}  // namespace thimble::pipeline
