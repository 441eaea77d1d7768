#include "text/pipeline/normalizers.h"

#include <array>
#include <memory>

#include "text/byte_characters.h"
#include "text/charsmap.h"
#include "text/pipeline/splitters.h"
#include "text/pipeline/unicode.h"

namespace thimble::pipeline {
namespace {

using Object = JsonTokenizer::Object;

bool is_cjk(uint32_t code) {
  return (code >= 0x4e00 && code <= 0x9fff) || (code >= 0x3400 && code <= 0x4dbf) ||
         (code >= 0x20000 && code <= 0x2a6df) || (code >= 0x2a700 && code <= 0x2b73f) ||
         (code >= 0x2b740 && code <= 0x2b81f) || (code >= 0x2b920 && code <= 0x2ceaf) ||
         (code >= 0xf900 && code <= 0xfaff) || (code >= 0x2f800 && code <= 0x2fa1f);
}

// BERT's "clean text": white space is a space, what is not text goes.
void clean(uint32_t code, std::string& to) {
  const bool space = code == '\t' || code == '\n' || code == '\r';
  if (code == 0 || code == 0xfffd || (!space && is_other(code))) return;
  append_utf8(to, space || is_white_space(code) ? ' ' : code);
}

Result<Normalizer> bert(const JsonTokenizer&, const Object& part) {
  const bool cleans = flag_of(part, "clean_text", true), chinese = flag_of(part, "handle_chinese_chars", true);
  const bool lower = flag_of(part, "lowercase", true), strips = flag_of(part, "strip_accents", lower);
  return [=](std::string& text, Edges) -> Result<void> {
    if (cleans) map_characters(text, clean);
    if (chinese)
      map_characters(text, [](uint32_t code, std::string& to) {
        if (is_cjk(code)) to += ' ';
        append_utf8(to, code);
        if (is_cjk(code)) to += ' ';
      });
    if (strips) {
      CHECK_OK(to_form(Form::nfd, text));
      map_characters(text, [](uint32_t code, std::string& to) {
        if (!is_nonspacing_mark(code)) append_utf8(to, code);
      });
    }
    if (lower) map_characters(text, [](uint32_t code, std::string& to) { append_lowercase(to, code); });
    return {};
  };
}

template <Form form>
Result<Normalizer> unicode_form(const JsonTokenizer&, const Object&) {
  return [](std::string& text, Edges) { return to_form(form, text); };
}

Result<Normalizer> lowercase(const JsonTokenizer&, const Object&) {
  return [](std::string& text, Edges) -> Result<void> {
    return map_characters(text, [](uint32_t code, std::string& to) { append_lowercase(to, code); }), Result<void>();
  };
}

Result<Normalizer> strip_accents(const JsonTokenizer&, const Object&) {
  return [](std::string& text, Edges) -> Result<void> {
    map_characters(text, [](uint32_t code, std::string& to) {
      if (!is_mark(code)) append_utf8(to, code);
    });
    return {};
  };
}

Result<Normalizer> strip(const JsonTokenizer&, const Object& part) {
  const bool left = flag_of(part, "strip_left", true), right = flag_of(part, "strip_right", true);
  return [=](std::string& text, Edges edges) -> Result<void> {
    size_t begin = text.size(), end = 0;
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = decode_utf8(text, at);
      if (!is_white_space(c.code)) begin = std::min(begin, at), end = at + c.length;
      at += c.length;
    }
    if (left && edges.begins && begin >= text.size()) return text.clear(), Result<void>();
    if (right && edges.ends) text.resize(end);
    if (left && edges.begins) text.erase(0, begin);
    return {};
  };
}

// SentencePiece's rules for machine translation: control characters go, other blanks become spaces.
Result<Normalizer> nmt(const JsonTokenizer&, const Object&) {
  return [](std::string& text, Edges) -> Result<void> {
    map_characters(text, [](uint32_t code, std::string& to) {
      const bool control = (code >= 1 && code <= 8) || code == 0x0b || (code >= 0x0e && code <= 0x1f) || code == 0x7f ||
                           code == 0x8f || code == 0x9f;
      const bool blank = code == 9 || code == 10 || code == 12 || code == 13 || code == 0x1680 ||
                         (code >= 0x200b && code <= 0x200f) || code == 0x2028 || code == 0x2029 || code == 0x2581 ||
                         code == 0xfeff || code == 0xfffd;
      if (!control) append_utf8(to, blank ? ' ' : code);
    });
    return {};
  };
}

// Clusters of fewer than 6 bytes are looked up whole, others character by character.
Result<Normalizer> precompiled(const JsonTokenizer&, const Object& part) {
  const auto map =
      std::make_shared<const Charsmap>(TRY(Charsmap::parse(TRY(decode_base64(text_of(part, "precompiled_charsmap"))))));
  return [map](std::string& text, Edges) -> Result<void> {
    std::string to;
    for (std::string_view rest = text; !rest.empty();) {
      const std::string_view cluster = rest.substr(0, first_grapheme(rest));
      rest.remove_prefix(cluster.size());
      if (cluster.size() < 6 && map->replace(cluster, to)) continue;
      for (size_t at = 0; at < cluster.size();) {
        const std::string_view character = cluster.substr(at, decode_utf8(cluster, at).length);
        if (!map->replace(character, to)) to += character;
        at += character.size();
      }
    }
    text = std::move(to);
    return {};
  };
}

Result<Normalizer> replace(const JsonTokenizer& json, const Object& part) {
  const auto pattern = std::make_shared<const Pattern>(TRY(read_pattern(json, part)));
  return [pattern, content = std::string(text_of(part, "content"))](std::string& text, Edges) -> Result<void> {
    std::string to;
    for (size_t at = 0; at < text.size();) {
      const Pattern::Match match = TRY(pattern->find(text, at, false));
      to.append(text, at, match.start - at);
      if (match.kind != Pattern::Match::Kind::found) break;
      to += content;
      at = match.end;
    }
    text = std::move(to);
    return {};
  };
}

Result<Normalizer> prepend(const JsonTokenizer&, const Object& part) {
  return [what = std::string(text_of(part, "prepend"))](std::string& text, Edges edges) -> Result<void> {
    if (edges.begins && !text.empty()) text.insert(0, what);
    return {};
  };
}

Result<Normalizer> byte_level(const JsonTokenizer&, const Object&) {
  return [](std::string& text, Edges) -> Result<void> {
    std::string to;
    append_characters_of_bytes(text, to);
    text = std::move(to);
    return {};
  };
}

struct Entry {
  std::string_view type;
  Result<Normalizer> (*read)(const JsonTokenizer& json, const Object& part);
};
constexpr std::array kNormalizers{
    Entry{"BertNormalizer", bert},
    Entry{"ByteLevel", byte_level},
    Entry{"Lowercase", lowercase},
    Entry{"NFC", unicode_form<Form::nfc>},
    Entry{"NFD", unicode_form<Form::nfd>},
    Entry{"NFKC", unicode_form<Form::nfkc>},
    Entry{"NFKD", unicode_form<Form::nfkd>},
    Entry{"Nmt", nmt},
    Entry{"Precompiled", precompiled},
    Entry{"Prepend", prepend},
    Entry{"Replace", replace},
    Entry{"Strip", strip},
    Entry{"StripAccents", strip_accents},
};

}  // namespace

Result<std::vector<Normalizer>> read_normalizers(const JsonTokenizer& json) {
  std::vector<Normalizer> all;
  for (const Object& part : json.normalizers) {
    const auto entry = TRY(find_part(json, "normalizer", kNormalizers, text_of(part, "type")));
    all.push_back(TRY(entry->read(json, part)));
  }
  return all;
}

}  // namespace thimble::pipeline
