// Python's json.dumps.
#pragma once

#include "text/jinja/evaluator.h"

namespace thimble::jinja {

struct JsonStyle {
  bool ascii = false;   // \uXXXX for what is not ASCII
  bool sorted = false;  // by key
  std::optional<std::string> indent;
  std::string item_separator = ", ", key_separator = ": ";

  // Of a number of blanks or a text; absent and none are no indentation.
  Result<void> set_indent(const Value& value);
  // After the indentation. Of two texts; absent and none are those that fit the indentation.
  Result<void> set_separators(Evaluator& evaluator, const Value& value);
};

}  // namespace thimble::jinja
