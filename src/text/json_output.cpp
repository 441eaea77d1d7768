#include "text/json_output.h"

#include "text/utf8.h"

namespace thimble {

void append_json_string(std::string& to, std::string_view text) {
  to += '"';
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (!c.valid) {
      to += "\uFFFD";
    } else if (c.code == '"' || c.code == '\\') {
      to += {'\\', static_cast<char>(c.code)};
    } else if (c.code < 0x20 || c.code == 0x7f) {
      to += fmt::format("\\u{:04x}", c.code);
    } else {
      to += text.substr(at, c.length);
    }
    at += c.length;
  }
  to += '"';
}

std::string json_string(std::string_view text) {
  std::string quoted;
  append_json_string(quoted, text);
  return quoted;
}

}  // namespace thimble
