#include "text/pipeline/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

namespace thimble::pipeline {
namespace {

utf8proc_category_t category(uint32_t code) { return utf8proc_category(static_cast<utf8proc_int32_t>(code)); }

bool within(uint32_t code, utf8proc_category_t first, utf8proc_category_t last) {
  const auto found = category(code);
  return found >= first && found <= last;
}

}  // namespace

bool is_white_space(uint32_t code) {
  return code == ' ' || (code >= '\t' && code <= '\r') || code == 0x85 || code == 0xa0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f || code == 0x205f ||
         code == 0x3000;
}

bool is_numeric(uint32_t code) { return within(code, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO); }

bool is_punctuation(uint32_t code) {
  const bool ascii = (code >= '!' && code <= '/') || (code >= ':' && code <= '@') || (code >= '[' && code <= '`') ||
                     (code >= '{' && code <= '~');
  return ascii || within(code, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

bool is_other(uint32_t code) { return within(code, UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CO); }

bool is_nonspacing_mark(uint32_t code) { return category(code) == UTF8PROC_CATEGORY_MN; }
bool is_mark(uint32_t code) { return within(code, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME); }

bool is_word(uint32_t code) {
  // Alphabetic beyond letters, marks and numbers of letters: circled and squared letters.
  const bool circled = (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
                       (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189);
  return within(code, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO) || is_mark(code) || circled ||
         within(code, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NL) || category(code) == UTF8PROC_CATEGORY_PC ||
         code == 0x200c || code == 0x200d;
}

Result<void> to_form(Form form, std::string& text) {
  const bool composes = form == Form::nfc || form == Form::nfkc, compatible = form == Form::nfkc || form == Form::nfkd;
  const int options =
      UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | (compatible ? UTF8PROC_COMPAT : 0);
  utf8proc_uint8_t* made = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &made, static_cast<utf8proc_option_t>(options));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(made, &std::free);
  if (size < 0)
    return fail(ErrorCode::invalid_argument, "bringing a text of {} bytes to a Unicode normal form: {}", text.size(),
                utf8proc_errmsg(size));
  text.assign(reinterpret_cast<const char*>(made), static_cast<size_t>(size));
  return {};
}

void append_lowercase(std::string& to, uint32_t code) {
  if (code == 0x130) return append_utf8(to, 'i'), append_utf8(to, 0x307);  // the one that becomes two
  append_utf8(to, static_cast<uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
}

size_t first_grapheme(std::string_view text) {
  Utf8Char before = decode_utf8(text, 0);
  size_t at = before.length;
  for (utf8proc_int32_t state = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(before.code),
                                         static_cast<utf8proc_int32_t>(c.code), &state))
      break;
    at += c.length;
    before = c;
  }
  return at;
}

}  // namespace thimble::pipeline
