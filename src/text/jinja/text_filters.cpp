// Filters of texts.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/characters.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/macro.h"
#include "text/jinja/word_wrap.h"

namespace thimble::jinja {
namespace {

using Given = std::span<Value>;

// The method of the same name, of whatever the filter is of as a text.
Result<Value> by_method(std::string_view name, Evaluator& evaluator, std::span<const Value> given) {
  Arguments arguments;
  arguments.values.push_back(Value(to_text(given[0])));
  for (const Value& more : given.subspan(1)) {
    if (more.given()) arguments.values.push_back(more);
  }
  return call_builtin(*find_method(Kind::text, name), evaluator, std::move(arguments));
}

Result<Value> capitalize(Evaluator& evaluator, Given given) { return by_method("capitalize", evaluator, given); }
Result<Value> lower_(Evaluator& evaluator, Given given) { return by_method("lower", evaluator, given); }
Result<Value> upper_(Evaluator& evaluator, Given given) { return by_method("upper", evaluator, given); }
Result<Value> trim(Evaluator& evaluator, Given given) { return by_method("strip", evaluator, given); }

Result<Value> center(Evaluator& evaluator, Given given) {
  std::array<Value, 2> with_width{given[0], given[1].given() ? given[1] : Value(int64_t{80})};
  return by_method("center", evaluator, with_width);
}

Result<Value> replace(Evaluator& evaluator, Given given) {
  // Of plain texts: without automatic escaping, markup has no part in it.
  std::array<Value, 4> texts{Value(make_text("")), Value(to_text(given[1])), Value(to_text(given[2])),
                             given[3].is(Kind::none) ? Value::absent() : given[3]};
  TextBuilder plain;
  write_text(given[0], plain);
  texts[0] = Value(plain.finish());
  return by_method("replace", evaluator, texts);
}

Result<Value> string(Evaluator&, Given given) { return Value(to_text(given[0])); }

Result<Value> safe(Evaluator& evaluator, Given given) {
  TextBuilder out;
  write_text(given[0], out);
  return evaluator.made(out, true);
}

Result<Value> escape(Evaluator&, Given given) { return Value(escaped(given[0])); }

Result<Value> forceescape(Evaluator&, Given given) {
  TextBuilder plain;
  write_text(given[0], plain);
  return Value(escaped(Value(plain.finish())));
}

bool begins_word(uint32_t before) {
  return before == '-' || is_space(before) || before == '(' || before == '{' || before == '[' || before == '<';
}

// Words begin after whitespace, '-' and opening brackets; each in lower case but for its first character.
Result<Value> title_(Evaluator& evaluator, Given given) {
  const TextPointer text = to_text(given[0]);
  CHECK_OK(evaluator.charge(text->bytes.size() / 8));
  TextBuilder out;
  const auto rest_of_word = [&](size_t begin, size_t end) -> Result<void> {
    if (begin >= end) return {};
    out.append(TRY(by_method("lower", evaluator, std::array{Value(slice_bytes(*text, begin, end))})).text());
    return {};
  };
  uint32_t before = '-';
  size_t at = 0, rest = 0;
  Result<void> failed;
  for_each_code(*text, 0, text->bytes.size(), [&](uint32_t code, size_t length, bool foreign) {
    if (begins_word(before) && failed) {
      failed = rest_of_word(rest, at);
      for (char32_t one : upper(code)) out.append_code(one, foreign);
      rest = at + length;
    }
    before = code;
    at += length;
  });
  CHECK_OK(failed);
  CHECK_OK(rest_of_word(rest, at));
  return evaluator.made(out);
}

Result<Value> format(Evaluator& evaluator, Arguments& given) {
  if (given.values.empty()) return wrong("format() is missing what it is of");
  const Value format = Value(to_text(given.values[0]));
  given.values.erase(given.values.begin());
  if (!given.values.empty() && !given.named.empty())
    return wrong("can't handle positional and keyword arguments at the same time");
  Value values;
  if (!given.named.empty()) {
    std::vector<Dict::Entry> entries;
    for (auto& [name, value] : given.named) entries.emplace_back(Value::text(name), value);
    values = TRY(make_dict(std::move(entries)));
  } else {
    values = TRY(make_list(std::move(given.values), Kind::tuple));
  }
  return percent_format(evaluator, format.text(), values);
}

// Lines as str.splitlines makes them.
Result<std::vector<Value>> lines_of(Evaluator& evaluator, const Value& text) {
  return evaluator.collect(TRY(call_builtin(*find_method(Kind::text, "splitlines"), evaluator, {{text}, {}})));
}

Result<Value> indent(Evaluator& evaluator, Given given) {
  const TextPointer text = TRY(text_of(given[0], "what is indented"));
  TextPointer blanks = make_text("    ");
  if (given[1].is(Kind::text)) {
    blanks = to_text(given[1]);
  } else if (given[1].given()) {
    const int64_t width = TRY(whole(given[1], "width"));
    CHECK_OK(evaluator.charge(static_cast<uint64_t>(std::max<int64_t>(width, 0))));
    blanks = make_text(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '));
  }
  const bool first = truth(given[2]), blank_too = truth(given[3]);
  TextBuilder with_feed;
  with_feed.append(*text);
  with_feed.append("\n");
  const std::vector<Value> lines = TRY(lines_of(evaluator, Value(with_feed.finish())));
  TextBuilder out;
  if (first) out.append(*blanks);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n");
    if (i > 0 && (blank_too || truth(lines[i]))) out.append(*blanks);
    CHECK_OK(evaluator.charge(1 + blanks->bytes.size() / 32));
    out.append(lines[i].text());
  }
  return evaluator.made(out, text->markup);
}

Result<Value> truncate(Evaluator& evaluator, Given given) {
  const int64_t length = TRY(whole_or(given[1], 255, "length"));
  const TextPointer end = given[3].given() ? TRY(text_of(given[3], "end")) : make_text("...");
  const int64_t leeway = given[4].is(Kind::none) ? 5 : TRY(whole_or(given[4], 5, "leeway"));
  const auto end_length = static_cast<int64_t>(end->length);
  if (length < end_length) return wrong(fmt::format("expected length >= {}, got {}", end_length, length));
  if (leeway < 0) return wrong(fmt::format("expected leeway >= 0, got {}", leeway));
  if (const auto size = size_of(given[0]); size && *size <= length + leeway) return given[0];
  const TextPointer text = TRY(text_of(given[0], "what is truncated"));
  size_t cut = text->byte_of(static_cast<size_t>(length - end_length));
  if (!truth(given[2])) {
    const size_t blank = std::string_view(text->bytes).substr(0, cut).rfind(' ');
    if (blank != std::string_view::npos) cut = blank;
  }
  TextBuilder out;
  out.append(*text, 0, cut);
  out.append(*end);
  return evaluator.made(out);
}

Result<Value> wordcount(Evaluator& evaluator, Given given) {
  const TextPointer text = to_text(given[0]);
  CHECK_OK(evaluator.charge(text->bytes.size() / 16));
  int64_t count = 0;
  bool within = false;
  for_each_code(*text, 0, text->bytes.size(), [&](uint32_t code, size_t, bool) {
    const bool word = is_word(code);
    count += word && !within;
    within = word;
  });
  return Value(count);
}

Result<Value> wordwrap(Evaluator& evaluator, Given given) {
  WrapOptions options{.width = TRY(whole_or(given[1], 79, "width"))};
  if (given[2].given()) options.breaks_long_words = truth(given[2]);
  if (given[4].given()) options.breaks_on_hyphens = truth(given[4]);
  if (options.width <= 0) return wrong(fmt::format("invalid width {} (must be > 0)", options.width));
  const bool has_own = given[3].given() && !given[3].is(Kind::none);
  const TextPointer feed = has_own ? TRY(text_of(given[3], "wrapstring")) : make_text("\n");
  const Value text = Value(TRY(text_of(given[0], "what is wrapped")));
  TextBuilder out;
  bool first = true;
  for (const Value& line : TRY(lines_of(evaluator, text))) {
    CHECK_OK(evaluator.charge(line.bytes().size() + 1));
    if (!std::exchange(first, false)) out.append(*feed);
    bool first_part = true;
    for (const TextPointer& part : wrap(line.text(), options)) {
      if (!std::exchange(first_part, false)) out.append(*feed);
      out.append(*part);
    }
  }
  return evaluator.made(out);
}

void append_quoted(std::string_view bytes, bool query, TextBuilder& to, bool foreign) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~";
  for (char byte : bytes) {
    const std::string_view one(&byte, 1);
    if (kPlain.find(byte) != std::string_view::npos || (byte == '/' && !query)) {
      to.append(one, foreign);
    } else if (byte == ' ' && query) {
      to.append("+", foreign);
    } else {
      to.append(fmt::format("%{:02X}", static_cast<unsigned char>(byte)), foreign);
    }
  }
}

Result<Value> urlencode(Evaluator& evaluator, Given given) {
  TextBuilder out;
  const Value& of = given[0];
  if (of.is(Kind::text) || !evaluator.iterate(of)) {
    const TextPointer text = to_text(of);
    append_quoted(text->bytes, false, out, !text->foreign.empty());
    return evaluator.made(out);
  }
  std::vector<Value> all;
  if (of.is(Kind::dict)) {
    for (const auto& [key, value] : of.dict().entries) all.push_back(TRY(make_list({key, value}, Kind::tuple)));
  } else {
    all = TRY(evaluator.collect(of));
  }
  for (size_t i = 0; i < all.size(); ++i) {
    const std::vector<Value> two = TRY(evaluator.collect(all[i]));
    if (two.size() != 2) return wrong("urlencode wants pairs");
    if (i > 0) out.append("&");
    for (size_t part = 0; part < 2; ++part) {
      if (part > 0) out.append("=");
      const TextPointer text = to_text(two[part]);
      append_quoted(text->bytes, true, out, !text->foreign.empty());
    }
  }
  return evaluator.made(out);
}

Result<Value> xmlattr(Evaluator& evaluator, Given given) {
  if (!given[0].is(Kind::dict)) return wrong("xmlattr is of a mapping");
  TextBuilder out;
  bool first = given[1].given() && !truth(given[1]);
  for (const auto& [key, value] : given[0].dict().entries) {
    if (value.is(Kind::none) || value.is(Kind::undefined)) continue;
    const TextPointer name = TRY(text_of(key, "an attribute's name"));
    if (name->bytes.find_first_of(" \t\n\r\f\v/>=") != std::string::npos)
      return wrong(fmt::format("Invalid character in attribute name: '{}'", name->bytes));
    if (!std::exchange(first, false)) out.append(" ");
    out.append(*escaped(key));
    out.append("=\"");
    out.append(*escaped(value));
    out.append("\"");
  }
  return evaluator.made(out);
}

// Without what stands in < >, with one blank for whitespace, and with the characters that entities name.
Result<Value> striptags(Evaluator& evaluator, Given given) {
  const TextPointer text = to_text(given[0]);
  CHECK_OK(evaluator.charge(text->bytes.size() / 4));
  const std::string_view bytes = text->bytes;
  TextBuilder bare;
  for (size_t at = 0; at < bytes.size();) {
    const bool comment = bytes.substr(at).starts_with("<!--");
    const size_t open = bytes.find('<', at);
    if (open != at) {
      const size_t end = std::min(open, bytes.size());
      bare.append(*text, at, end);
      at = end;
      continue;
    }
    const size_t close = comment ? bytes.find("-->", at) : bytes.find('>', at);
    if (close == std::string_view::npos) {
      bare.append(*text, at, bytes.size());
      break;
    }
    at = close + (comment ? 3 : 1);
  }
  const Value words = TRY(call_builtin(*find_method(Kind::text, "split"), evaluator, {{Value(bare.finish())}, {}}));
  TextBuilder out;
  for (const Value& word : words.list().items) {
    if (out.size() > 0) out.append(" ");
    out.append(word.text());
  }
  constexpr auto kEntities = std::to_array<std::pair<std::string_view, std::string_view>>({{"&lt;", "<"},
                                                                                           {"&gt;", ">"},
                                                                                           {"&quot;", "\""},
                                                                                           {"&#34;", "\""},
                                                                                           {"&#39;", "'"},
                                                                                           {"&nbsp;", "\u00a0"},
                                                                                           {"&amp;", "&"}});
  Value result = Value(out.finish());
  for (const auto& [entity, character] : kEntities) {
    result = TRY(call_builtin(*find_method(Kind::text, "replace"), evaluator,
                              {{result, Value::text(entity), Value::text(character)}, {}}));
  }
  return result;
}

constexpr auto kFilters = std::to_array<Builtin>({
    {"capitalize", {"s"}, 1, capitalize},
    {"center", {"value", "width"}, 1, center},
    {"e", {"s"}, 1, escape},
    {"escape", {"s"}, 1, escape},
    {"forceescape", {"value"}, 1, forceescape},
    {"format", {}, 0, nullptr, format},
    {"indent", {"s", "width", "first", "blank"}, 1, indent},
    {"lower", {"s"}, 1, lower_},
    {"replace", {"s", "old", "new", "count"}, 3, replace},
    {"safe", {"value"}, 1, safe},
    {"string", {"object"}, 1, string},
    {"striptags", {"value"}, 1, striptags},
    {"title", {"s"}, 1, title_},
    {"trim", {"value", "chars"}, 1, trim},
    {"truncate", {"s", "length", "killwords", "end", "leeway"}, 1, truncate},
    {"upper", {"s"}, 1, upper_},
    {"urlencode", {"value"}, 1, urlencode},
    {"wordcount", {"s"}, 1, wordcount},
    {"wordwrap", {"s", "width", "break_long_words", "wrapstring", "break_on_hyphens"}, 1, wordwrap},
    {"xmlattr", {"d", "autospace"}, 1, xmlattr},
});

}  // namespace

TextPointer escaped(const Value& value) {
  const TextPointer text = to_text(value);
  if (text->markup) return text;
  TextBuilder out;
  size_t at = 0;
  for_each_code(*text, 0, text->bytes.size(), [&](uint32_t code, size_t length, bool foreign) {
    const std::string_view entity = code == '&'    ? "&amp;"
                                    : code == '<'  ? "&lt;"
                                    : code == '>'  ? "&gt;"
                                    : code == '\'' ? "&#39;"
                                    : code == '"'  ? "&#34;"
                                                   : "";
    if (entity.empty()) {
      out.append(*text, at, at + length);
    } else {
      out.append(entity, foreign);
    }
    at += length;
  });
  return out.finish(true);
}

std::span<const Builtin> text_filters() { return kFilters; }

}  // namespace thimble::jinja
