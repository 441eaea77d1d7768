// What Python's str knows about characters: classes by Unicode category, and changes of case, which may be longer.
#pragma once

#include <cstdint>
#include <string>

namespace thimble::jinja {

bool is_space(uint32_t code);      // str.isspace
bool is_printable(uint32_t code);  // str.isprintable
bool is_alpha(uint32_t code);
bool is_decimal(uint32_t code);
bool is_digit(uint32_t code);
bool is_numeric(uint32_t code);
bool is_alnum(uint32_t code);
bool is_upper(uint32_t code);
bool is_lower(uint32_t code);
bool is_title(uint32_t code);
bool is_word(uint32_t code);  // \w of Python's re
bool is_identifier_start(uint32_t code);
bool is_identifier(uint32_t code);

// UTF-8 of the character in another case: "SS" of U+00DF.
std::u32string upper(uint32_t code);
std::u32string lower(uint32_t code);
std::u32string title(uint32_t code);
std::u32string fold(uint32_t code);

}  // namespace thimble::jinja
