#include "text/vocabulary.h"

#include <algorithm>

namespace thimble {

Result<void> check_word(size_t bytes, size_t offset) {
  if (bytes <= kLongestWord) return {};
  return fail(ErrorCode::unsupported,
              "a word of {} bytes begins at offset {}; at most {} are taken: break the text into lines", bytes, offset,
              kLongestWord);
}

Failure missing_byte(unsigned char byte, size_t offset) {
  return fail(ErrorCode::invalid_argument,
              "tokenizing: byte 0x{:02X} at offset {} cannot be expressed in this vocabulary, which lacks a token for "
              "it; remove the character from the text",
              byte, offset);
}

Result<void> finish(Vocabulary& vocabulary, const std::string& path) {
  if (vocabulary.tokens.size() == 0) return fail(ErrorCode::corrupt, "reading {}: the vocabulary is empty", path);
  struct Named {
    const char* name;
    std::optional<int32_t> id;
  };
  for (const auto& [name, id] : {Named{"bos", vocabulary.bos}, Named{"eos", vocabulary.eos},
                                 Named{"unknown", vocabulary.unknown}, Named{"padding", vocabulary.padding}}) {
    if (id && (*id < 0 || *id >= vocabulary.tokens.size())) {
      return fail(ErrorCode::corrupt, "reading {}: the {} token's id {} is outside the vocabulary of {} tokens", path,
                  name, *id, vocabulary.tokens.size());
    }
  }
  vocabulary.tokens.index();
  vocabulary.merges.index();
  return {};
}

VocabularyTokenizer::VocabularyTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {
  for (int32_t id = 0; id < vocabulary_.tokens.size(); ++id)
    longest_ = std::max(longest_, vocabulary_.tokens.bytes(id).size());
  bos_ = vocabulary_.bos;
  eos_ = vocabulary_.eos;
  adds_bos_ = vocabulary_.adds_bos && bos_.has_value();
  beginning_ = vocabulary_.beginning;
  if (beginning_.empty() && bos_) beginning_.push_back(*bos_);
  if (vocabulary_.adds_eos) ending_ = vocabulary_.ending;
  if (vocabulary_.adds_eos && ending_.empty() && eos_) ending_.push_back(*eos_);
  chat_template_ = std::move(vocabulary_.chat_template);
  if (eos_) ends_.push_back(*eos_);
  for (const int32_t id : vocabulary_.ends) {
    const bool new_one = std::ranges::find(ends_, id) == ends_.end();
    if (new_one && id >= 0 && id < vocabulary_.tokens.size()) ends_.push_back(id);
  }
  specials_.build(vocabulary_.tokens, vocabulary_.rules, vocabulary_.symbols);
  if (vocabulary_.token_names) {
    token_names_ = *std::move(vocabulary_.token_names);
    return;
  }
  const auto add = [&](const char* name, std::optional<int32_t> id) {
    if (id) token_names_.emplace_back(name, vocabulary_.tokens.bytes(*id));
  };
  add("bos_token", vocabulary_.bos);
  add("eos_token", vocabulary_.eos);
  add("unk_token", vocabulary_.unknown);
  add("pad_token", vocabulary_.padding);
}

bool VocabularyTokenizer::is_special(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return false;
  const TokenKind kind = vocabulary_.tokens.kind(id);
  return kind == TokenKind::control || kind == TokenKind::unknown;
}

bool VocabularyTokenizer::is_apart(int32_t id) const {
  if (is_special(id)) return true;
  return id >= 0 && id < vocab_size() && vocabulary_.tokens.kind(id) == TokenKind::user_defined &&
         !std::ranges::binary_search(vocabulary_.symbols, id);
}

std::optional<int32_t> VocabularyTokenizer::find(std::string_view token) const {
  int32_t id = specials_.find(token);
  if (id < 0) id = vocabulary_.tokens.find(token);
  for (const int32_t symbol : vocabulary_.symbols)
    if (id < 0 && vocabulary_.tokens.bytes(symbol) == token) id = symbol;
  return id < 0 ? std::nullopt : std::optional(id);
}

std::optional<int32_t> VocabularyTokenizer::first_special(std::string_view text) const {
  for (size_t at = 0; at < text.size();) {
    const SpecialTokens::Hit hit = specials_.find(text, at, true, false);
    if (hit.id >= 0 && is_special(hit.id)) return hit.id;
    at = hit.end;
  }
  return std::nullopt;
}

Result<void> VocabularyTokenizer::encode(std::string_view text, const EncodeOptions& options,
                                         std::vector<int32_t>& ids) {
  TRY(walk(text, options, false, ids));
  return {};
}

Result<size_t> VocabularyTokenizer::encode_part(std::string_view text, const EncodeOptions& options,
                                                std::vector<int32_t>& ids) {
  return walk(text, options, true, ids);
}

// The first one from `at` on that is not within ordinary text; there, only user-defined ones count, as they do
// anywhere.
SpecialTokens::Hit VocabularyTokenizer::next_special(std::string_view text, size_t at, const EncodeOptions& options,
                                                     bool more) const {
  const auto ordinary = [&](const SpecialTokens::Hit& hit) {
    const auto span =
        std::ranges::partition_point(options.ordinary, [&](const TextSpan& one) { return one.end <= hit.start; });
    return hit.id >= 0 && span != options.ordinary.end() && span->begin <= hit.start && hit.end <= span->end;
  };
  for (;;) {
    const SpecialTokens::Hit hit = specials_.find(text, at, options.special, more);
    if (!ordinary(hit)) return hit;
    const SpecialTokens::Hit user = specials_.find_at(text, hit.start, false, more);
    if (user.id >= 0 || user.partial) return user;
    at = hit.start + 1;
  }
}

Result<size_t> VocabularyTokenizer::walk(std::string_view text, const EncodeOptions& options, bool more,
                                         std::vector<int32_t>& ids) {
  if (options.bos && !options.continued && !options.after_special && !beginning_.empty()) {
    const SpecialTokens::Hit begin = text.empty() ? SpecialTokens::Hit{} : next_special(text, 0, options, more);
    if (begin.partial && begin.start == 0) return 0;  // may be it
    if (begin.start > 0 || begin.id != beginning_.front()) ids.insert(ids.end(), beginning_.begin(), beginning_.end());
  }
  bool first = !options.continued && !options.after_special, starts = !options.continued || options.after_special;
  for (size_t at = 0; at < text.size();) {
    const SpecialTokens::Hit hit = next_special(text, at, options, more);
    const auto [end, next] = specials_.taken(text, at, hit);
    const bool open = hit.id < 0 && more;
    if (end > at) {
      const size_t done = TRY(encode_stretch(text.substr(at, end - at), {first, starts, open, at}, ids));
      first = first && done == 0;
      if (open) return at + done;
    } else if (open) {
      return at;
    }
    if (hit.id < 0) break;
    if (more && specials_.takes_right(hit.id) && next == text.size()) return hit.start;  // more whitespace may follow
    ids.push_back(hit.id);
    first = false;
    starts = true;
    at = next;
  }
  return text.size();
}

}  // namespace thimble
