// GPT-2's way to write bytes as printable characters: the 188 printable ones of Latin-1 stand for themselves, the
// other 68 become U+0100 and on, in order. Files hold tokens in this form; in memory they are bytes.
#pragma once

#include <string>
#include <string_view>

namespace thimble {

// Replaces `bytes`. False when `characters` has one that stands for no byte.
bool bytes_of_characters(std::string_view characters, std::string& bytes);
// Appends.
void append_characters_of_bytes(std::string_view bytes, std::string& characters);

}  // namespace thimble
