#include "text/special_tokens.h"

#include <algorithm>

#include "text/pipeline/unicode.h"
#include "text/utf8.h"

namespace thimble {
namespace {

size_t skip_spaces(std::string_view text, size_t at) {
  while (at < text.size()) {
    const Utf8Char c = decode_utf8(text, at);
    if (!c.valid || !pipeline::is_white_space(c.code)) break;
    at += c.length;
  }
  return at;
}

size_t trim_spaces(std::string_view text, size_t from, size_t end) {
  size_t kept = from;
  for (size_t at = from; at < end;) {
    const Utf8Char c = decode_utf8(text, at);
    at += c.length;
    if (!c.valid || !pipeline::is_white_space(c.code)) kept = at;
  }
  return kept;
}

bool ends_with_word(std::string_view text) {
  size_t at = text.size();
  while (at > 0 && (static_cast<unsigned char>(text[at - 1]) & 0xc0) == 0x80) --at;
  if (at == 0) return false;
  const Utf8Char c = decode_utf8(text, at - 1);
  return c.valid && pipeline::is_word(c.code);
}

bool starts_with_word(std::string_view text) {
  if (text.empty()) return false;
  const Utf8Char c = decode_utf8(text, 0);
  return c.valid && pipeline::is_word(c.code);
}

}  // namespace

void SpecialTokens::build(const TokenTable& tokens, std::span<const TokenRules> rules,
                          std::span<const int32_t> without) {
  tokens_ = &tokens;
  rules_.assign(rules.begin(), rules.end());
  std::ranges::stable_sort(rules_, {}, &TokenRules::id);
  all_ = user_ = List();
  for (int32_t id = 0; id < tokens.size(); ++id) {
    const TokenKind kind = tokens.kind(id);
    const std::string_view text = tokens.bytes(id);
    const bool user = kind == TokenKind::user_defined;
    if (text.empty() || !(user || kind == TokenKind::control || kind == TokenKind::unknown)) continue;
    if (std::ranges::binary_search(without, id)) continue;
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
      Hit hit = match(list, text, at, more);
      if (hit.id >= 0 && rules_of(hit.id).single_word) {
        if (more && hit.end == text.size()) hit = {at, at, -1, true};
        if (hit.id >= 0 && !is_word_of_its_own(text, hit)) {
          at = hit.end - 1;
          continue;
        }
      }
      if (hit.id >= 0 || hit.partial) return hit;
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

TokenRules SpecialTokens::rules_of(int32_t id) const {
  const auto at = std::ranges::lower_bound(rules_, id, {}, &TokenRules::id);
  return id >= 0 && at != rules_.end() && at->id == id ? *at : TokenRules{};
}

bool SpecialTokens::is_word_of_its_own(std::string_view text, const Hit& hit) const {
  return !ends_with_word(text.substr(0, hit.start)) && !starts_with_word(text.substr(hit.end));
}

TextSpan SpecialTokens::taken(std::string_view text, size_t from, const Hit& hit) const {
  const TokenRules rules = rules_of(hit.id);
  return {rules.left ? trim_spaces(text, from, hit.start) : hit.start,
          rules.right ? skip_spaces(text, hit.end) : hit.end};
}

int32_t SpecialTokens::find(std::string_view token) const {
  const auto at =
      std::partition_point(all_.ids.begin(), all_.ids.end(), [&](int32_t id) { return tokens_->bytes(id) < token; });
  return at != all_.ids.end() && tokens_->bytes(*at) == token ? *at : -1;
}

}  // namespace thimble
