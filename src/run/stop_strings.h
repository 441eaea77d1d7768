// Strings at which a reply ends, found in a text that comes in pieces. What may be the beginning of one is held back.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace thimble {

class StopStrings {
 public:
  explicit StopStrings(std::span<const std::string> strings) : strings_(strings) {}  // outlives this; none is empty

  // The text that is certain, up to the first stop string. Of several that begin at one place the first listed counts.
  std::string push(std::string_view text);
  // What was held back, at the end of the text.
  std::string rest() { return std::move(held_); }
  // The one that was found; nothing comes after it.
  const std::optional<size_t>& found() const { return found_; }

 private:
  std::span<const std::string> strings_;
  std::string held_;
  std::optional<size_t> found_;
};

}  // namespace thimble
