#include "text/pipeline/splitters.h"

#include <algorithm>
#include <array>
#include <memory>

#include "text/byte_characters.h"
#include "text/pipeline/unicode.h"
#include "text/pre_tokenizer.h"

namespace thimble::pipeline {
namespace {

using Object = JsonTokenizer::Object;

// A stretch of a piece: what a pattern matched, or what lies between.
struct Part {
  size_t begin, end;
  bool match;
};
using Parts = std::vector<Part>;

// What becomes of matches, in the words of tokenizers.
enum class Behavior { removed, isolated, contiguous, with_previous, with_next };

Result<Behavior> behavior_of(const JsonTokenizer& json, const Object& part, std::string_view otherwise) {
  constexpr std::array<std::string_view, 5> kNames = {"Removed", "Isolated", "Contiguous", "MergedWithPrevious",
                                                      "MergedWithNext"};
  const std::string_view name = text_of(part, "behavior", otherwise);
  const auto at = std::ranges::find(kNames, name);
  if (at == kNames.end())
    return unsupported_part(json, "behavior", name,
                            "Removed, Isolated, Contiguous, MergedWithPrevious and MergedWithNext");
  return static_cast<Behavior>(at - kNames.begin());
}

// A match joins the stretch before it, unless that is a match that joined already.
Parts joined_to_previous(const Parts& parts) {
  Parts to;
  bool before = false;
  for (const Part& part : parts) {
    if (part.match && !before && !to.empty())
      to.back().end = part.end;
    else
      to.push_back(part);
    before = part.match;
  }
  return to;
}

Parts joined_to_next(const Parts& parts) {
  Parts to;
  bool after = false;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    if (part->match && !after && !to.empty())
      to.back().begin = part->begin;
    else
      to.push_back(*part);
    after = part->match;
  }
  std::ranges::reverse(to);
  return to;
}

Parts arranged(Parts parts, Behavior behavior) {
  switch (behavior) {
    case Behavior::removed:
      std::erase_if(parts, [](const Part& part) { return part.match; });
      return parts;
    case Behavior::isolated:
      return parts;
    case Behavior::contiguous: {
      Parts to;
      for (const Part& part : parts) {
        if (!to.empty() && to.back().match == part.match)
          to.back().end = part.end;
        else
          to.push_back(part);
      }
      return to;
    }
    case Behavior::with_previous:
      return joined_to_previous(parts);
    case Behavior::with_next:
      return joined_to_next(parts);
  }
  return parts;
}

// Cuts every piece by `parts_of(text) -> Result<Parts>`, which cover the text.
template <class PartsOf>
Result<void> cut(Pieces& pieces, Behavior behavior, PartsOf&& parts_of) {
  Pieces to;
  for (Piece& piece : pieces) {
    for (const Part& part : arranged(TRY(parts_of(std::string_view(piece.text))), behavior)) {
      if (part.begin == part.end) continue;
      to.push_back({piece.text.substr(part.begin, part.end - part.begin), piece.first && part.begin == 0,
                    piece.joins && part.begin == 0});
    }
  }
  pieces = std::move(to);
  return {};
}

// Every character that `matches` is a match of its own; what lies between is one stretch.
template <class Matches>
Parts parts_by(std::string_view text, Matches&& matches) {
  Parts parts;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    const bool match = matches(c.code);
    if (!match && !parts.empty() && !parts.back().match)
      parts.back().end += c.length;
    else
      parts.push_back({at, at + c.length, match});
    at += c.length;
  }
  return parts;
}

template <class Matches>
Splitter by_character(Behavior behavior, Matches matches) {
  return [=](Pieces& pieces) {
    return cut(pieces, behavior, [&](std::string_view text) -> Result<Parts> { return parts_by(text, matches); });
  };
}

Result<Parts> parts_by_pattern(const Pattern& pattern, std::string_view text, bool invert) {
  Parts parts;
  for (size_t at = 0; at < text.size();) {
    const Pattern::Match match = TRY(pattern.find(text, at, false));
    if (match.start > at) parts.push_back({at, match.start, invert});
    if (match.kind != Pattern::Match::Kind::found) break;
    parts.push_back({match.start, match.end, !invert});
    at = match.end;
  }
  return parts;
}

Splitter by_pattern(Behavior behavior, std::shared_ptr<const Pattern> pattern, bool invert) {
  return [=](Pieces& pieces) {
    return cut(pieces, behavior, [&](std::string_view text) { return parts_by_pattern(*pattern, text, invert); });
  };
}

Result<Splitter> bert(const JsonTokenizer&, const Object&) {
  return [spaces = by_character(Behavior::removed, is_white_space),
          punctuation = by_character(Behavior::isolated, is_punctuation)](Pieces& pieces) -> Result<void> {
    CHECK_OK(spaces(pieces));
    return punctuation(pieces);
  };
}

Result<Splitter> byte_level(const JsonTokenizer&, const Object& part) {
  Splitter words;
  if (flag_of(part, "use_regex", true))
    words = by_pattern(Behavior::isolated,
                       std::make_shared<const Pattern>(TRY(Pattern::compile(std::string(gpt2_pattern())))), false);
  return [words, prefix = flag_of(part, "add_prefix_space", true)](Pieces& pieces) -> Result<void> {
    for (Piece& piece : pieces)
      if (prefix && !piece.joins && !piece.text.starts_with(' ')) piece.text.insert(0, 1, ' ');
    if (words) CHECK_OK(words(pieces));
    std::string characters;
    for (Piece& piece : pieces) {
      characters.clear();
      append_characters_of_bytes(piece.text, characters);
      piece.text = characters;
    }
    return {};
  };
}

Result<Splitter> char_delimiter(const JsonTokenizer& json, const Object& part) {
  const std::string_view delimiter = text_of(part, "delimiter");
  if (delimiter.empty() || decode_utf8(delimiter, 0).length != delimiter.size())
    return unsupported_part(json, "delimiter", delimiter, "one character");
  return by_character(Behavior::removed, [code = decode_utf8(delimiter, 0).code](uint32_t c) { return c == code; });
}

Result<Splitter> digits(const JsonTokenizer&, const Object& part) {
  return by_character(flag_of(part, "individual_digits", false) ? Behavior::isolated : Behavior::contiguous,
                      is_numeric);
}

Result<Splitter> fixed_length(const JsonTokenizer& json, const Object& part) {
  int64_t length = 5;
  if (part.at_key("length").get(length) == simdjson::SUCCESS && length < 1)
    return unsupported_part(json, "length of FixedLength", fmt::format("{}", length), "1 and more");
  return [length](Pieces& pieces) {
    return cut(pieces, Behavior::isolated, [&](std::string_view text) -> Result<Parts> {
      Parts parts;
      int64_t characters = 0;
      for (size_t at = 0; at < text.size(); ++characters) {
        if (characters % length == 0) parts.push_back({at, at, true});
        at += decode_utf8(text, at).length;
        parts.back().end = at;
      }
      return parts;
    });
  };
}

// A space becomes the replacement; one is put before a piece that does not begin with it; pieces begin with it.
Result<Splitter> metaspace(const JsonTokenizer& json, const Object& part) {
  const std::string mark(text_of(part, "replacement", "\u2581"));
  if (mark.empty() || decode_utf8(mark, 0).length != mark.size())
    return unsupported_part(json, "replacement of Metaspace", mark, "one character");
  const bool legacy = flag_of(part, "add_prefix_space", true);
  const std::string_view scheme = text_of(part, "prepend_scheme", legacy ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never")
    return unsupported_part(json, "prepend_scheme", scheme, "always, first and never");
  const bool always = scheme == "always", first = scheme == "first", splits = flag_of(part, "split", true);
  return [=, code = decode_utf8(mark, 0).code](Pieces& pieces) -> Result<void> {
    for (Piece& piece : pieces) {
      map_characters(piece.text, [&](uint32_t c, std::string& to) { append_utf8(to, c == ' ' ? code : c); });
      const bool wanted = (always && !piece.joins) || (first && piece.first);
      if (wanted && !piece.text.starts_with(mark)) piece.text.insert(0, mark);
    }
    if (!splits) return {};
    return cut(pieces, Behavior::with_next, [&](std::string_view text) -> Result<Parts> {
      return parts_by(text, [&](uint32_t c) { return c == code; });
    });
  };
}

Result<Splitter> punctuation(const JsonTokenizer& json, const Object& part) {
  return by_character(TRY(behavior_of(json, part, "Isolated")), is_punctuation);
}

Result<Splitter> split(const JsonTokenizer& json, const Object& part) {
  const Behavior behavior = TRY(behavior_of(json, part, ""));
  return by_pattern(behavior, std::make_shared<const Pattern>(TRY(read_pattern(json, part))),
                    flag_of(part, "invert", false));
}

// Words, and what is neither word nor white space.
Result<Splitter> whitespace(const JsonTokenizer&, const Object&) {
  return [](Pieces& pieces) {
    return cut(pieces, Behavior::isolated, [](std::string_view text) -> Result<Parts> {
      Parts parts;
      int before = 0;
      for (size_t at = 0; at < text.size();) {
        const Utf8Char c = decode_utf8(text, at);
        const int kind = is_word(c.code) ? 1 : is_white_space(c.code) ? 0 : 2;
        if (kind != 0 && kind == before)
          parts.back().end += c.length;
        else if (kind != 0)
          parts.push_back({at, at + c.length, true});
        before = kind;
        at += c.length;
      }
      return parts;
    });
  };
}

Result<Splitter> whitespace_split(const JsonTokenizer&, const Object&) {
  return by_character(Behavior::removed, is_white_space);
}

struct Entry {
  std::string_view type;
  Result<Splitter> (*read)(const JsonTokenizer& json, const Object& part);
  bool cuts_at_spaces;
};
constexpr std::array kSplitters{
    Entry{"BertPreTokenizer", bert, true},
    Entry{"ByteLevel", byte_level, false},
    Entry{"CharDelimiterSplit", char_delimiter, false},
    Entry{"Digits", digits, false},
    Entry{"FixedLength", fixed_length, false},
    Entry{"Metaspace", metaspace, true},
    Entry{"Punctuation", punctuation, false},
    Entry{"Split", split, false},
    Entry{"Whitespace", whitespace, true},
    Entry{"WhitespaceSplit", whitespace_split, true},
};

}  // namespace

Result<Pattern> read_pattern(const JsonTokenizer& json, const Object& part) {
  Object pattern;
  if (part.at_key("pattern").get(pattern) != simdjson::SUCCESS)
    return fail(ErrorCode::corrupt, "reading {}: a {} has no pattern", json.path, text_of(part, "type"));
  const std::string_view literal = text_of(pattern, "String");
  Pattern compiled =
      TRY(Pattern::compile(literal.empty() ? std::string(text_of(pattern, "Regex")) : Pattern::quoted(literal)));
  if (compiled.matches_empty())
    return unsupported_part(json, "pattern", compiled.source(), "those that match one character or more");
  return compiled;
}

Result<Splitters> read_splitters(const JsonTokenizer& json) {
  Splitters all;
  for (const Object& part : json.pre_tokenizers) {
    const auto entry = TRY(find_part(json, "pre-tokenizer", kSplitters, text_of(part, "type")));
    all.steps.push_back(TRY(entry->read(json, part)));
    all.cuts_at_spaces |= entry->cuts_at_spaces && flag_of(part, "split", true);
  }
  return all;
}

}  // namespace thimble::pipeline
