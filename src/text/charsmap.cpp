#include "text/charsmap.h"

#include <algorithm>
#include <cstring>

#include "text/utf8.h"

namespace thimble {

Result<Charsmap> Charsmap::parse(std::string_view bytes) {
  Charsmap map;
  if (bytes.empty()) return map;
  uint32_t trie_bytes = 0;
  if (bytes.size() >= 4) std::memcpy(&trie_bytes, bytes.data(), 4);
  if (bytes.size() < 4 || trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes > bytes.size() - 4 ||
      (trie_bytes < bytes.size() - 4 && bytes.back() != '\0')) {
    return fail(ErrorCode::corrupt,
                "reading a precompiled_charsmap of {} bytes: the trie's size, {} bytes, does not fit in it",
                bytes.size(), trie_bytes);
  }
  map.units_.resize(trie_bytes / 4);
  std::memcpy(map.units_.data(), bytes.data() + 4, trie_bytes);
  map.replacements_ = bytes.substr(4 + trie_bytes);
  // One character of the text becomes one of them: a long one would make a small text large.
  constexpr size_t kLongestReplacement = 1024;  // real ones are under 64
  for (size_t begin = 0; begin < map.replacements_.size();) {
    const size_t end = std::min(map.replacements_.find('\0', begin), map.replacements_.size());
    if (end - begin > kLongestReplacement)
      return fail(ErrorCode::corrupt,
                  "reading a precompiled_charsmap: a replacement has {} bytes, at most {} are taken", end - begin,
                  kLongestReplacement);
    begin = end + 1;
  }
  return map;
}

// Units of Darts-clone: bits 0-7 the label (bit 31 set: a leaf with a value in bits 0-30), bit 8 "has a leaf",
// bits 10-30 the offset, shifted by 8 more when bit 9 is set.
Charsmap::Prefix Charsmap::find_prefix(std::string_view text, bool shortest) const {
  const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); };
  constexpr size_t kLongestPrefix = 256;  // real ones are under 64; a hostile trie may have cycles
  Prefix best;
  size_t node = offset(units_[0]);
  for (size_t i = 0; i < std::min(text.size(), kLongestPrefix); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (node >= units_.size()) break;
    const uint32_t unit = units_[node];
    if ((unit & 0x800000ffu) != byte) break;
    node ^= offset(unit);
    if ((unit >> 8) & 1) {
      if (node >= units_.size()) break;
      const uint32_t value = units_[node] & 0x7fffffffu;
      if (value < replacements_.size()) best = {i + 1, value};
      if (shortest && best.length > 0) break;
    }
  }
  return best;
}

void Charsmap::normalise(std::string_view text, std::string& to) const {
  while (!text.empty()) text.remove_prefix(normalise_first(text, to));
}

size_t Charsmap::normalise_first(std::string_view text, std::string& to) const {
  const Prefix prefix = find_prefix(text, false);
  const size_t length = prefix.length > 0 ? prefix.length : decode_utf8(text, 0).length;
  if (prefix.length > 0) {
    to += replacements_.c_str() + prefix.replacement;
  } else {
    to += text.substr(0, length);
  }
  return length;
}

bool Charsmap::replace(std::string_view chunk, std::string& to) const {
  const Prefix prefix = empty() ? Prefix{} : find_prefix(chunk, true);
  if (prefix.length == 0) return false;
  to += replacements_.c_str() + prefix.replacement;
  return true;
}

std::string Charsmap::bytes() const {
  if (empty()) return {};
  const auto trie_bytes = static_cast<uint32_t>(units_.size() * 4);
  std::string out(4 + trie_bytes, '\0');
  std::memcpy(out.data(), &trie_bytes, 4);
  std::memcpy(out.data() + 4, units_.data(), trie_bytes);
  return out + replacements_;
}

}  // namespace thimble
