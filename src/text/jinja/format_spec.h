// How a value is laid out by str.format and by %: sign, width, precision, digits in groups.
#pragma once

#include "text/jinja/evaluator.h"

namespace thimble::jinja {

struct FormatSpec {
  TextPointer fill;   // none: a blank, or zeros
  char align = '\0';  // < > ^ =
  char sign = '-';    // + - or a blank
  bool alternate = false, zeros = false;
  int64_t width = 0, precision = -1;
  char group = '\0';  // , or _
  char type = '\0';
};

// Of str.format: "[[fill]align][sign][#][0][width][,][.precision][type]".
Result<FormatSpec> parse_spec(const Text& text);
Result<void> write_formatted(Evaluator& evaluator, const Value& value, const FormatSpec& spec, TextBuilder& to);

// A number in one of the types d b o x X n, e E f F g G %, and of a float none; without a sign.
Result<std::string> digits_of(const Value& value, const FormatSpec& spec);
Result<void> write_padded(Evaluator& evaluator, const Text& text, size_t sign_length, const FormatSpec& spec,
                          char standard, TextBuilder& to);

// Python's chr().
Result<void> append_character(int64_t code, TextBuilder& to);

}  // namespace thimble::jinja
