// What tokenizers ask about characters: Unicode's categories and forms, by utf8proc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace thimble::pipeline {

bool is_white_space(uint32_t code);      // the property White_Space
bool is_numeric(uint32_t code);          // categories Nd, Nl and No
bool is_punctuation(uint32_t code);      // ASCII's punctuation, and categories P*
bool is_other(uint32_t code);            // control, format, private and surrogate; not unassigned
bool is_nonspacing_mark(uint32_t code);  // category Mn
bool is_mark(uint32_t code);             // categories M*
bool is_word(uint32_t code);             // \w of Unicode's regular expressions (UTS 18)

enum class Form { nfc, nfd, nfkc, nfkd };
// Replaces `text`, which is valid UTF-8.
Result<void> to_form(Form form, std::string& text);
void append_lowercase(std::string& to, uint32_t code);
// Bytes of the first grapheme cluster of `text`, which is valid UTF-8 and not empty.
size_t first_grapheme(std::string_view text);

// Replaces `text` by what `map(code, to)` appends for each of its characters.
template <class Map>
void map_characters(std::string& text, Map&& map);

}  // namespace thimble::pipeline

#include "text/utf8.h"

template <class Map>
void thimble::pipeline::map_characters(std::string& text, Map&& map) {
  std::string to;
  to.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    map(c.code, to);
    at += c.length;
  }
  text = std::move(to);
}
