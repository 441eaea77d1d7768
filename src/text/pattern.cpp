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

std::string unicode_spaces(std::string_view source) {
  std::string out;
  bool in_class = false;
  for (size_t i = 0; i < source.size(); ++i) {
    const char c = source[i];
    if (c == '\\' && i + 1 < source.size()) {
      const char escaped = source[++i];
      if (escaped == 's') {
        out += in_class ? std::string(kSpaces) : fmt::format("[{}]", kSpaces);
      } else if (escaped == 'S' && !in_class) {
        out += fmt::format("[^{}]", kSpaces);
      } else {
        out += {c, escaped};
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 160> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

Result<Pattern> Pattern::compile(std::string source) {
  const std::string text = unicode_spaces(source);
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
  // Without machine code (a hardened kernel may forbid it) the interpreter gives the same answers, slower.
  if (pcre2_jit_compile(c.code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0) {
    c.stack = pcre2_jit_stack_create(32 << 10, 1 << 20, nullptr);
    pcre2_jit_stack_assign(c.context, nullptr, c.stack);
  }
  uint32_t lookbehind = 0;
  pcre2_pattern_info(c.code, PCRE2_INFO_MAXLOOKBEHIND, &lookbehind);
  pattern.looks_behind_ = lookbehind > 0;
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
