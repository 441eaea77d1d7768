// Context-free grammars that a text may be held to, byte by byte.
//
// A grammar is a list of rules, each a list of alternatives, each a sequence of byte sets and rules, laid out one after
// another; characters beyond ASCII are sequences of byte sets, so that a token may end within one. What has been read
// is a set of stacks of positions in that list, which share their lower parts.
#pragma once

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace thimble {

class Grammar {
 public:
  using Bytes = std::bitset<256>;

  // GBNF, the notation of llama.cpp, with a rule `root`. invalid_argument names the line. Left recursion is refused.
  static Result<Grammar> parse(std::string_view gbnf);

 private:
  friend class GrammarParser;
  friend class GrammarState;
  struct Element {
    enum class Kind : uint8_t { end, bytes, rule } kind;
    int32_t index = 0;  // of a byte set, or of a rule
  };

  std::vector<Bytes> sets_;
  std::vector<Element> elements_;
  std::vector<std::vector<int32_t>> rules_;  // where each alternative begins among the elements
  int32_t root_ = 0;
};

// What of a text is read. The grammar must outlive it.
class GrammarState {
 public:
  explicit GrammarState(const Grammar& grammar);

  bool may_end() const { return ends_; }           // the text may be over here
  bool must_end() const { return tops_.empty(); }  // nothing can follow
  // Reads on, or changes nothing and is false where the grammar does not allow it.
  bool accept(std::string_view text);
  // Of tokens sorted by their bytes, calls `allow(i)` for those that could come next; none is empty.
  template <class Allow>
  void allowed(const std::vector<std::string_view>& sorted, Allow&& allow);

 private:
  struct Node {
    int32_t position, below;  // below: -1 for none
  };
  using Tops = std::vector<int32_t>;

  // Adds to `tops` the stacks that a position leads to, down to those whose top is a byte set.
  void expand(int32_t position, int32_t below, Tops& tops, bool& ends);
  void step(const Tops& from, unsigned char byte, Tops& tops, bool& ends);

  const Grammar* grammar_;
  std::vector<Node> nodes_;
  Tops tops_;
  bool ends_ = false;
};

template <class Allow>
void GrammarState::allowed(const std::vector<std::string_view>& sorted, Allow&& allow) {
  struct Depth {  // after so many bytes of the token before
    Tops tops;
    bool ends;
    size_t nodes;
  };
  const size_t nodes = nodes_.size();
  std::vector<Depth> depths{{tops_, ends_, nodes}};
  std::string_view before;
  for (size_t i = 0; i < sorted.size(); ++i) {
    const std::string_view token = sorted[i];
    size_t shared = 0;
    while (shared + 1 < depths.size() && shared < token.size() && token[shared] == before[shared]) ++shared;
    depths.resize(shared + 1);
    nodes_.resize(depths.back().nodes);
    while (depths.size() <= token.size() && !depths.back().tops.empty()) {
      Depth next{{}, false, 0};
      step(depths.back().tops, static_cast<unsigned char>(token[depths.size() - 1]), next.tops, next.ends);
      next.nodes = nodes_.size();
      depths.push_back(std::move(next));
    }
    if (depths.size() == token.size() + 1 && (!depths.back().tops.empty() || depths.back().ends)) allow(i);
    before = token;
  }
  nodes_.resize(nodes);
}

}  // namespace thimble
