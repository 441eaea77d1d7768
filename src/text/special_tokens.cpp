#include "text/special_tokens.h"

#include <algorithm>

namespace thimble {

void SpecialTokens::build(const TokenTable& tokens) {
  tokens_ = &tokens;
  all_ = user_ = List();
  for (int32_t id = 0; id < tokens.size(); ++id) {
    const TokenKind kind = tokens.kind(id);
    const std::string_view text = tokens.bytes(id);
    const bool user = kind == TokenKind::user_defined;
    if (text.empty() || !(user || kind == TokenKind::control || kind == TokenKind::unknown)) continue;
    for (List* list : {&all_, &user_}) {
      if (list == &user_ && !user) continue;
      list->ids.push_back(id);
      list->first.set(static_cast<unsigned char>(text[0]));
    }
  }
  for (List* list : {&all_, &user_}) {
    std::stable_sort(list->ids.begin(), list->ids.end(),
                     [&](int32_t a, int32_t b) { return tokens.bytes(a) < tokens.bytes(b); });
  }
}

SpecialTokens::Hit SpecialTokens::find(std::string_view text, size_t from, bool control, bool more) const {
  const List& list = control ? all_ : user_;
  if (!list.ids.empty()) {
    for (size_t at = from; at < text.size(); ++at) {
      if (!list.first.test(static_cast<unsigned char>(text[at]))) continue;
      if (const Hit hit = match(list, text, at, more); hit.id >= 0 || hit.partial) return hit;
    }
  }
  return {text.size(), text.size(), -1, false};
}

// Narrows the range of tokens that agree with the text byte by byte; a token that ends is the first of its range.
SpecialTokens::Hit SpecialTokens::match(const List& list, std::string_view text, size_t at, bool more) const {
  auto low = list.ids.begin(), high = list.ids.end();
  Hit hit{at, at, -1, false};
  for (size_t depth = 0; low != high; ++depth) {
    for (; low != high && tokens_->bytes(*low).size() == depth; ++low) {
      if (hit.end != at + depth) hit = {at, at + depth, *low, false};
    }
    if (low == high) break;
    if (at + depth == text.size()) {
      if (more) return {at, at, -1, true};
      break;
    }
    const char byte = text[at + depth];
    low = std::partition_point(low, high, [&](int32_t id) {
      return static_cast<unsigned char>(tokens_->bytes(id)[depth]) < static_cast<unsigned char>(byte);
    });
    high = std::partition_point(low, high, [&](int32_t id) { return tokens_->bytes(id)[depth] == byte; });
  }
  return hit;
}

int32_t SpecialTokens::find(std::string_view token) const {
  const auto at =
      std::partition_point(all_.ids.begin(), all_.ids.end(), [&](int32_t id) { return tokens_->bytes(id) < token; });
  return at != all_.ids.end() && tokens_->bytes(*at) == token ? *at : -1;
}

}  // namespace thimble
