// A template's source to tokens, as jinja2 3.1 cuts it with trim_blocks and lstrip_blocks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace thimble::jinja {

enum class TokenKind : uint8_t {
  data,
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  name,
  string,
  integer,
  real,
  sign,  // an operator or a bracket; its text is in `text`
  end,
};

struct Token {
  TokenKind kind = TokenKind::end;
  uint32_t line = 1;
  std::string text;  // of data and strings: what they stand for
  int64_t integer = 0;
  double real = 0;

  bool is_sign(std::string_view sign) const { return kind == TokenKind::sign && text == sign; }
  bool is_name(std::string_view name) const { return kind == TokenKind::name && text == name; }
};

// The last token is `end`.
Result<std::vector<Token>> tokenize(std::string_view source);

Failure syntax_error(uint32_t line, std::string_view what);

}  // namespace thimble::jinja
