#include "text/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>

#include "text/utf8.h"

namespace thimble {

struct Pattern::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
  pcre2_jit_stack* stack = nullptr;
};

void Pattern::Free::operator()(Compiled* compiled) const {
  pcre2_jit_stack_free(compiled->stack);
  pcre2_match_context_free(compiled->context);
  pcre2_match_data_free(compiled->data);
  pcre2_code_free(compiled->code);
  delete compiled;
}

namespace {

// PCRE2's \s also takes U+180E, which is no White_Space since Unicode 6.3; tokenizers follow Unicode.
constexpr std::string_view kSpaces = "\\t-\\r\\x{85}\\p{Z}";

// \w of Oniguruma, which is more than PCRE2's.
constexpr std::string_view kWord = "\\p{L}\\p{M}\\p{Nd}\\p{Pc}";

// From Oniguruma's syntax to PCRE2's, where the two differ.
class Translation {
 public:
  explicit Translation(std::string_view source) : source_(source) {}

  Result<std::string> run() {
    while (at_ < source_.size()) {
      const char c = source_[at_];
      if (c == '\\' && at_ + 1 < source_.size())
        out_ += escape(false);
      else if (c == '[')
        CHECK_OK(set());
      else if (c == '^' || c == '$')  // of a line, as in Ruby
        out_ += fmt::format("(?m:{})", source_[at_++]);
      else
        out_ += source_[at_++];
    }
    return std::move(out_);
  }

 private:
  std::string escape(bool in_set) {
    const char escaped = source_[at_ + 1];
    at_ += 2;
    const auto one_of = [&](std::string_view characters) {
      return in_set ? std::string(characters) : fmt::format("[{}]", characters);
    };
    if (escaped == 's') return one_of(kSpaces);
    if (escaped == 'w') return one_of(kWord);
    if (escaped == 'h') return one_of("0-9a-fA-F");
    // Where a word begins or ends, by that \w.
    if (!in_set && escaped == 'b') return fmt::format("(?:(?<=[{0}])(?![{0}])|(?<![{0}])(?=[{0}]))", kWord);
    if (!in_set && escaped == 'B') return fmt::format("(?:(?<=[{0}])(?=[{0}])|(?<![{0}])(?![{0}]))", kWord);
    if (const std::string_view digits = source_.substr(at_, 4); escaped == 'u' && digits.size() == 4) {
      at_ += 4;
      return fmt::format("\\x{{{}}}", digits);
    }
    if (!in_set && escaped == 'S') return fmt::format("[^{}]", kSpaces);
    if (!in_set && escaped == 'W') return fmt::format("[^{}]", kWord);
    return {'\\', escaped};
  }

  // The inside of a set up to its end, or to an intersection.
  Result<std::string> members() {
    std::string inside;
    if (source_.substr(at_).starts_with(']')) inside += "\\]", ++at_;
    while (at_ < source_.size() && source_[at_] != ']' && !source_.substr(at_).starts_with("&&")) {
      if (source_.substr(at_).starts_with("[:")) {
        const size_t end = source_.find(":]", at_);
        inside += source_.substr(at_, end == source_.npos ? end : end + 2 - at_);
        at_ += inside.size() > 0 && end != source_.npos ? end + 2 - at_ : source_.size() - at_;
      } else if (source_[at_] == '[') {
        return fail(ErrorCode::unsupported,
                    "compiling the pre-tokenizer's pattern '{}': a set within a set is supported after && only",
                    source_);
      } else if (source_[at_] == '\\' && at_ + 1 < source_.size()) {
        inside += escape(true);
      } else {
        inside += source_[at_++];
      }
    }
    return inside;
  }

  // [a], or [a&&[^b]] as a look ahead and [a].
  Result<void> set() {
    const bool negated = source_.substr(++at_).starts_with('^');
    if (negated) ++at_;
    const std::string inside = TRY(members());
    std::string conditions;
    while (source_.substr(at_).starts_with("&&")) {
      at_ += 2;
      const bool nested = source_.substr(at_).starts_with('[');
      if (nested) ++at_;
      const bool excluded = nested && source_.substr(at_).starts_with('^');
      if (excluded) ++at_;
      conditions += fmt::format("(?{}[{}])", excluded ? '!' : '=', TRY(members()));
      if (nested && at_ < source_.size()) ++at_;
    }
    if (negated && !conditions.empty())
      return fail(ErrorCode::unsupported,
                  "compiling the pre-tokenizer's pattern '{}': the complement of an intersection is not supported",
                  source_);
    const bool closed = at_ < source_.size();
    if (closed) ++at_;
    const std::string body = fmt::format("[{}{}{}", negated ? "^" : "", inside, closed ? "]" : "");
    out_ += conditions.empty() ? body : fmt::format("(?:{}{})", conditions, body);
    return {};
  }

  std::string_view source_;
  size_t at_ = 0;
  std::string out_;
};

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 160> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

std::string Pattern::quoted(std::string_view text) {
  std::string pattern;
  for (char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}#-").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

Result<Pattern> Pattern::compile(std::string source) {
  const std::string text = TRY(Translation(source).run());
  int error = 0;
  PCRE2_SIZE at = 0;
  Pattern pattern;
  pattern.source_ = std::move(source);
  pattern.compiled_.reset(new Compiled);
  Compiled& c = *pattern.compiled_;
  c.code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                         PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (!c.code) {
    return fail(ErrorCode::unsupported, "compiling the pre-tokenizer's pattern '{}': {} (near character {})",
                pattern.source_, pcre2_message(error), at);
  }
  c.data = pcre2_match_data_create(1, nullptr);
  c.context = pcre2_match_context_create(nullptr);
  if (!c.data || !c.context) throw std::bad_alloc();
  // A pattern that tries everything is stopped: those of real tokenizers try a few ways at each place.
  pcre2_set_match_limit(c.context, 1'000'000);
  pcre2_set_heap_limit(c.context, 64 << 10);  // KiB
  // Without machine code (a hardened kernel may forbid it) the interpreter gives the same answers, slower.
  if (pcre2_jit_compile(c.code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0) {
    c.stack = pcre2_jit_stack_create(32 << 10, 1 << 20, nullptr);
    pcre2_jit_stack_assign(c.context, nullptr, c.stack);
  }
  uint32_t lookbehind = 0, empty = 0;
  pcre2_pattern_info(c.code, PCRE2_INFO_MAXLOOKBEHIND, &lookbehind);
  pcre2_pattern_info(c.code, PCRE2_INFO_MATCHEMPTY, &empty);
  pattern.looks_behind_ = lookbehind > 0, pattern.matches_empty_ = empty != 0;
  return pattern;
}

Result<Pattern::Match> Pattern::find(std::string_view text, size_t from, bool more) const {
  const Compiled& c = *compiled_;
  const PCRE2_SIZE* found = pcre2_get_ovector_pointer(c.data);
  while (from < text.size()) {
    const int result = pcre2_match(c.code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                   PCRE2_NO_UTF_CHECK | (more ? PCRE2_PARTIAL_HARD : 0), c.data, c.context);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result == PCRE2_ERROR_PARTIAL) return Match{Match::Kind::partial, found[0], text.size()};
    if (result < 0) {
      return fail(ErrorCode::invalid_argument,
                  "splitting {} bytes of text by the pattern '{}': {}. The pattern is too costly for this text; break "
                  "the text into shorter lines",
                  text.size() - from, source_, pcre2_message(result));
    }
    if (found[1] > found[0] && found[0] >= from) return Match{Match::Kind::found, found[0], found[1]};
    from = std::max<size_t>(from, found[1]);  // an empty match separates nothing
    if (from < text.size()) from += decode_utf8(text, from).length;
  }
  return Match{Match::Kind::none, text.size(), text.size()};
}

}  // namespace thimble
