// Finds the tokens that stand for themselves in a text ("<|im_end|>"), leftmost first, of those the longest.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "text/text_span.h"
#include "text/token_table.h"

namespace thimble {

// How a special token is found in a text: whitespace that it takes with it (tokenizer.json's lstrip and rstrip), and
// whether it must be no part of a longer word.
struct TokenRules {
  int32_t id = -1;
  bool left = false, right = false, single_word = false;
  bool any() const { return left || right || single_word; }
};

class SpecialTokens {
 public:
  struct Hit {
    size_t start = 0, end = 0;
    int32_t id = -1;       // -1: none; `start` is the end of the text
    bool partial = false;  // the text ends within what may become a special token that starts at `start`
  };

  // The tokens that are control, unknown or user_defined, but for those in `without`, which ascend. `tokens` must
  // outlive this.
  void build(const TokenTable& tokens, std::span<const TokenRules> rules = {}, std::span<const int32_t> without = {});
  // From `from` on. `control` false leaves only the user-defined ones. `more`: the text goes on after its end.
  Hit find(std::string_view text, size_t from, bool control, bool more) const;
  // The one that begins at `at`.
  Hit find_at(std::string_view text, size_t at, bool control, bool more) const {
    return match(control ? all_ : user_, text, at, more);
  }
  // The hit with the whitespace that goes with it, as far back as `from`.
  TextSpan taken(std::string_view text, size_t from, const Hit& hit) const;
  bool takes_right(int32_t id) const { return rules_of(id).right; }
  // The special token of exactly this text, or -1.
  int32_t find(std::string_view token) const;

 private:
  struct List {
    std::vector<int32_t> ids;  // sorted by their text
    std::bitset<256> first;    // bytes that one of them starts with
  };
  Hit match(const List& list, std::string_view text, size_t at, bool more) const;
  TokenRules rules_of(int32_t id) const;
  bool is_word_of_its_own(std::string_view text, const Hit& hit) const;

  const TokenTable* tokens_ = nullptr;
  std::vector<TokenRules> rules_;  // sorted by id
  List all_, user_;
};

}  // namespace thimble
