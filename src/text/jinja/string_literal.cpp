#include "text/jinja/string_literal.h"

#include <algorithm>

#include "text/utf8.h"

namespace thimble::jinja {
namespace {

constexpr std::string_view kMarks = "\\'\"abfnrtv";
constexpr std::string_view kStandFor = "\\'\"\a\b\f\n\r\t\v";

int digit_of(char byte) {
  if (byte >= '0' && byte <= '9') return byte - '0';
  const char lower = static_cast<char>(byte | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

// Reads up to `most` digits of `base`, moving `at`; gives how many there were.
int read_digits(std::string_view text, size_t& at, int most, int base, uint32_t& code) {
  int count = 0;
  for (; count < most && at < text.size() && digit_of(text[at]) < base; ++count, ++at) {
    code = code * static_cast<uint32_t>(base) + static_cast<uint32_t>(digit_of(text[at]));
  }
  return count;
}

}  // namespace

Result<std::string> unescaped(std::string_view literal) {
  std::string out;
  for (size_t at = 0; at < literal.size();) {
    const size_t slash = std::min(literal.find('\\', at), literal.size());
    out += literal.substr(at, slash - at);
    at = slash;
    if (at == literal.size()) break;
    const char mark = at + 1 < literal.size() ? literal[at + 1] : '\0';
    at += 2;
    if (const size_t known = kMarks.find(mark); mark != '\0' && known != std::string_view::npos) {
      out += kStandFor[known];
      continue;
    }
    if (mark == '\n') continue;  // a line that goes on
    uint32_t code = 0;
    if (mark >= '0' && mark <= '7') {
      --at;
      read_digits(literal, at, 3, 8, code);
    } else if (mark == 'x' || mark == 'u' || mark == 'U') {
      const int digits = mark == 'x' ? 2 : mark == 'u' ? 4 : 8;
      if (read_digits(literal, at, digits, 16, code) < digits || code > 0x10ffff)
        return fail(ErrorCode::invalid_argument, "truncated \\{} escape in a string", mark);
      if (code >= 0xd800 && code < 0xe000)
        return fail(ErrorCode::invalid_argument, "a string holds half of a surrogate pair, which is no character");
    } else if (mark == 'N') {
      return fail(ErrorCode::unsupported, "a string names a character with \\N{{...}}: write the character itself");
    } else {
      out += '\\';
      --at;
      continue;
    }
    append_utf8(out, code);
  }
  return out;
}

}  // namespace thimble::jinja
