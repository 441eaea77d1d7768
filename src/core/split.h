// Lists in one text.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

// The parts between separators, empty ones too; none of an empty text.
inline std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out;
  if (text.empty()) return out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    out.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

}  // namespace thimble
