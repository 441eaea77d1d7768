#include "text/grammar/grammar.h"

#include <algorithm>

namespace thimble {

GrammarState::GrammarState(const Grammar& grammar) : grammar_(&grammar) {
  for (const int32_t alternative : grammar.rules_[static_cast<size_t>(grammar.root_)])
    expand(alternative, -1, tops_, ends_);
}

// Left recursion is refused when a grammar is read, so that this comes to an end.
void GrammarState::expand(int32_t position, int32_t below, Tops& tops, bool& ends) {
  const auto element = [&](int32_t at) { return grammar_->elements_[static_cast<size_t>(at)]; };
  while (element(position).kind == Grammar::Element::Kind::end) {
    if (below < 0) {
      ends = true;
      return;
    }
    const Node node = nodes_[static_cast<size_t>(below)];
    position = node.position;
    below = node.below;
  }
  if (element(position).kind == Grammar::Element::Kind::bytes) {
    const bool known = std::ranges::any_of(tops, [&](int32_t top) {
      const Node& node = nodes_[static_cast<size_t>(top)];
      return node.position == position && node.below == below;
    });
    if (known) return;
    tops.push_back(static_cast<int32_t>(nodes_.size()));
    nodes_.push_back({position, below});
    return;
  }
  int32_t after = below;  // nothing is kept of a rule that is the last of its sequence
  if (element(position + 1).kind != Grammar::Element::Kind::end) {
    after = static_cast<int32_t>(nodes_.size());
    nodes_.push_back({position + 1, below});
  }
  for (const int32_t alternative : grammar_->rules_[static_cast<size_t>(element(position).index)])
    expand(alternative, after, tops, ends);
}

void GrammarState::step(const Tops& from, unsigned char byte, Tops& tops, bool& ends) {
  for (const int32_t top : from) {
    const Node node = nodes_[static_cast<size_t>(top)];
    const auto set = static_cast<size_t>(grammar_->elements_[static_cast<size_t>(node.position)].index);
    if (grammar_->sets_[set].test(byte)) expand(node.position + 1, node.below, tops, ends);
  }
}

bool GrammarState::accept(std::string_view text) {
  const size_t nodes = nodes_.size();
  Tops tops = tops_;
  bool ends = ends_;
  for (const char byte : text) {
    Tops next;
    ends = false;
    step(tops, static_cast<unsigned char>(byte), next, ends);
    tops = std::move(next);
    if (tops.empty() && !ends) break;
  }
  if (tops.empty() && !ends) {
    nodes_.resize(nodes);
    return false;
  }
  tops_ = std::move(tops);
  ends_ = ends;
  return true;
}

}  // namespace thimble
