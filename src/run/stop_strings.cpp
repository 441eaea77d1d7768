#include "run/stop_strings.h"

#include <algorithm>

namespace thimble {

std::string StopStrings::push(std::string_view text) {
  if (found_) return {};
  held_ += text;
  size_t at = held_.size();
  for (size_t i = 0; i < strings_.size(); ++i) {
    const size_t begin = held_.find(strings_[i]);
    if (begin < at) at = begin, found_ = i;
  }
  if (found_) {
    held_.resize(at);
    return std::move(held_);
  }
  for (const std::string& stop : strings_)
    for (size_t length = std::min(stop.size() - 1, held_.size()); length > 0; --length)
      if (held_.ends_with(std::string_view(stop).substr(0, length))) {
        at = std::min(at, held_.size() - length);
        break;
      }
  std::string certain = held_.substr(0, at);
  held_.erase(0, at);
  return certain;
}

}  // namespace thimble
