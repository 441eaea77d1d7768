#include "adapters/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace thimble {
namespace {

constexpr size_t kLongest = 4096;
constexpr uint32_t kMostSteps = 200'000, kMostHeapKib = 1024;

}  // namespace

struct NamePattern::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_data* data = nullptr;
  pcre2_match_context* context = nullptr;
};

void NamePattern::Free::operator()(Compiled* compiled) const {
  pcre2_match_context_free(compiled->context);
  pcre2_match_data_free(compiled->data);
  pcre2_code_free(compiled->code);
  delete compiled;
}

Result<NamePattern> NamePattern::compile(const std::string& pattern, const std::string& source) {
  if (pattern.size() > kLongest)
    return fail(ErrorCode::corrupt, "{}: a pattern of {} characters, at most {} are taken", source, pattern.size(),
                kLongest);
  NamePattern made;
  made.source_ = source + ": the pattern '" + pattern + "'";
  made.compiled_ = std::shared_ptr<Compiled>(new Compiled, Free());
  int error = 0;
  PCRE2_SIZE at = 0;
  made.compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (!made.compiled_->code) {
    PCRE2_UCHAR text[128] = {};
    pcre2_get_error_message(error, text, sizeof text);
    return fail(ErrorCode::corrupt, "{} is no regular expression: {} at character {}", made.source_,
                reinterpret_cast<const char*>(text), at);
  }
  made.compiled_->data = pcre2_match_data_create_from_pattern(made.compiled_->code, nullptr);
  made.compiled_->context = pcre2_match_context_create(nullptr);
  if (!made.compiled_->data || !made.compiled_->context) throw std::bad_alloc();
  pcre2_set_match_limit(made.compiled_->context, kMostSteps);
  pcre2_set_heap_limit(made.compiled_->context, kMostHeapKib);
  return made;
}

// 1: it matches, 0: it does not.
Result<int> NamePattern::run(std::string_view name, size_t number, std::string* group) const {
  const int found = pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0,
                                group ? 0 : PCRE2_ENDANCHORED, compiled_->data, compiled_->context);
  if (found == PCRE2_ERROR_NOMATCH) return 0;
  if (found < 0) return fail(ErrorCode::corrupt, "{} takes too long on the name '{}'; simplify it", source_, name);
  if (group && number < static_cast<size_t>(found)) {
    const PCRE2_SIZE* const ends = pcre2_get_ovector_pointer(compiled_->data);
    if (ends[2 * number] != PCRE2_UNSET)
      *group = name.substr(ends[2 * number], ends[2 * number + 1] - ends[2 * number]);
  }
  return 1;
}

Result<bool> NamePattern::matches(std::string_view name) const { return TRY(run(name, 0, nullptr)) != 0; }

Result<std::string> NamePattern::group(std::string_view name, size_t number) const {
  std::string text;
  TRY(run(name, number, &text));
  return text;
}

}  // namespace thimble
