// SentencePiece's normalisation table (`precompiled_charsmap`): the longest matching prefix is replaced.
//
//   u32 bytes of the trie | Darts-clone double-array trie, u32 units | replacements, each ended by a zero byte
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace thimble {

class Charsmap {
 public:
  static Result<Charsmap> parse(std::string_view bytes);
  bool empty() const { return units_.empty(); }
  // Appends the normalised form of `text`.
  void normalise(std::string_view text, std::string& to) const;
  // The same of as much of the text, which is not empty, as is normalised together: so many bytes.
  size_t normalise_first(std::string_view text, std::string& to) const;
  // Appends what tokenizers' Precompiled makes of `chunk`: the replacement of the shortest prefix that has one, for all
  // of it. False where no prefix has one.
  bool replace(std::string_view chunk, std::string& to) const;
  std::string bytes() const;  // as parsed

 private:
  struct Prefix {
    size_t length = 0;
    uint32_t replacement = 0;
  };
  Prefix find_prefix(std::string_view text, bool shortest) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

}  // namespace thimble
