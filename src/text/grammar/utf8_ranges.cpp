#include "text/grammar/utf8_ranges.h"

#include <algorithm>
#include <string>

#include "text/utf8.h"

namespace thimble {
namespace {

// Splits where the length of the encoding changes, then where a trailing byte does not run over all its values, so that
// the bytes of the first and of the last code point bound each place by itself.
void split(uint32_t first, uint32_t last, std::vector<ByteSequence>& to) {
  for (const uint32_t end : {0x7fu, 0x7ffu, 0xffffu})
    if (first <= end && last > end) return split(first, end, to), split(end + 1, last, to);
  for (uint32_t bits = 6; last > 0x7f && bits <= 18; bits += 6) {
    const uint32_t low = (1u << bits) - 1;
    if ((first & ~low) == (last & ~low)) continue;
    if ((first & low) != 0) return split(first, first | low, to), split((first | low) + 1, last, to);
    if ((last & low) != low) return split(first, (last & ~low) - 1, to), split(last & ~low, last, to);
  }
  std::string a, b;
  append_utf8(a, first);
  append_utf8(b, last);
  ByteSequence made{{}, a.size()};
  for (size_t i = 0; i < a.size(); ++i) made.bytes[i] = {static_cast<uint8_t>(a[i]), static_cast<uint8_t>(b[i])};
  to.push_back(made);
}

}  // namespace

std::vector<ByteSequence> utf8_sequences(uint32_t first, uint32_t last) {
  std::vector<ByteSequence> all;
  if (first < 0xd800) split(first, std::min(last, 0xd7ffu), all);
  if (last > 0xdfff) split(std::max(first, 0xe000u), last, all);
  return all;
}

}  // namespace thimble
