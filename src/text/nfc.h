// Unicode's normalisation form C (Unicode Standard Annex 15), which some tokenizers bring text to first.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

// Whether `text` is surely in NFC: nothing in it lies at U+0300 or above.
bool is_surely_nfc(std::string_view text);

// The bytes of `text` whose normal form no text after it can change: up to the last character that starts afresh.
size_t certain_nfc(std::string_view text);

// Places where the two texts correspond: byte `from` of the source is byte `to` of the result, and so are the `length`
// bytes that follow, and the end of them.
struct NfcRun {
  size_t from, to, length;
};

// Replaces `to` and `runs`. Bytes that are not UTF-8 stay as they are and join with nothing.
void to_nfc(std::string_view text, std::string& to, std::vector<NfcRun>& runs);

}  // namespace thimble
