#include "text/pre_tokenizer.h"

#include <algorithm>

#include "text/utf8.h"

namespace thimble {

Result<void> PreTokenizer::add(std::string_view pattern) {
  constexpr size_t kMaxStages = 16;  // split_stage recurses once a stage
  if (stages_.size() == kMaxStages) {
    return fail(ErrorCode::unsupported, "building a pre-tokenizer: more than {} patterns", kMaxStages);
  }
  stages_.push_back(TRY(Pattern::compile(std::string(pattern))));
  looks_behind_ = looks_behind_ || stages_.back().looks_behind();
  return {};
}

const NamedPattern* PreTokenizer::named() const {
  for (const NamedPattern& named : named_patterns()) {
    if (std::ranges::equal(named.patterns, stages_, {}, {},
                           [](const Pattern& p) { return std::string_view(p.source()); })) {
      return &named;
    }
  }
  return nullptr;
}

Result<size_t> PreTokenizer::split(std::string_view text, bool more, Sink& sink) const {
  if (more && looks_behind_) return size_t{0};
  size_t start = 0;  // of the stretch of valid UTF-8 that ends at `at`
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (c.valid) {
      at += c.length;
      continue;
    }
    if (c.truncated && more) return start + TRY(split_stage(0, text.substr(start, at - start), true, sink));
    TRY(split_stage(0, text.substr(start, at - start), false, sink));
    CHECK_OK(sink.piece(text.substr(at, 1)));
    start = ++at;
  }
  return start + TRY(split_stage(0, text.substr(start), more, sink));
}

Result<size_t> PreTokenizer::split_stage(size_t stage, std::string_view text, bool more, Sink& sink) const {
  if (text.empty()) return size_t{0};
  if (stage == stages_.size()) {
    if (more) return size_t{0};
    CHECK_OK(sink.piece(text));
    return text.size();
  }
  for (size_t at = 0; at < text.size();) {
    const Pattern::Match match = TRY(stages_[stage].find(text, at, more));
    if (match.kind != Pattern::Match::Kind::found) {
      // To the next stage a partial match is the unknown: it may end the stretch before it or become part of it.
      return at + TRY(split_stage(stage + 1, text.substr(at, match.start - at), more, sink));
    }
    TRY(split_stage(stage + 1, text.substr(at, match.start - at), false, sink));
    TRY(split_stage(stage + 1, text.substr(match.start, match.end - match.start), false, sink));
    at = match.end;
  }
  return text.size();
}

}  // namespace thimble
