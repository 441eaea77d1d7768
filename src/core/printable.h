// Text of files and servers, as a terminal may see it.
#pragma once

#include <string>
#include <string_view>

namespace thimble {

// What a terminal would act on is shown instead: control characters (but line feeds and tabs), in seven and in eight
// bits ("\x1b", "\u009b"), characters that turn the direction of writing ("\u202e"), and bytes that are not UTF-8
// ("\x9b").
std::string printable(std::string_view text);

// To standard output: as it is, unless that is a terminal.
void print_text(std::string_view text);

}  // namespace thimble
