// Methods of str.
#include <algorithm>
#include <functional>

#include "text/jinja/builtins.h"
#include "text/jinja/characters.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/macro.h"

namespace thimble::jinja {
namespace {

using Given = std::span<Value>;

bool missing(const Value& value) { return !value.given() || value.is(Kind::none); }

// ---- case ----

using Change = std::u32string (*)(uint32_t code);

void append_all(TextBuilder& to, const std::u32string& codes, bool foreign) {
  for (char32_t code : codes) to.append_code(code, foreign);
}

bool cased(uint32_t code) { return is_upper(code) || is_lower(code) || is_title(code); }

// Unicode's rule for a capital sigma that ends a word.
bool final_sigma(const std::vector<uint32_t>& codes, size_t at) {
  const auto ignorable = [](uint32_t code) {
    return code == '\'' || code == '.' || code == ':' || code == '^' || code == '`' || code == 0xad || code == 0x2019 ||
           (is_identifier(code) && !is_alnum(code) && code != '_');
  };
  size_t before = at;
  while (before > 0 && ignorable(codes[before - 1])) --before;
  if (before == 0 || !cased(codes[before - 1])) return false;
  size_t after = at + 1;
  while (after < codes.size() && ignorable(codes[after])) ++after;
  return after == codes.size() || !cased(codes[after]);
}

Result<Value> changed(Evaluator& evaluator, const Text& text, const std::function<Change(size_t, uint32_t)>& choose) {
  CHECK_OK(evaluator.charge(text.bytes.size() / 8));
  std::vector<uint32_t> codes;
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t, bool) { codes.push_back(code); });
  TextBuilder out;
  size_t at = 0;
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t, bool foreign) {
    const Change change = choose(at, code);
    if (change == lower && code == 0x3a3 && final_sigma(codes, at)) {
      out.append_code(0x3c2, foreign);
    } else {
      append_all(out, change(code), foreign);
    }
    ++at;
  });
  return evaluator.made(out, text.markup);
}

template <Change change>
Result<Value> change_case(Evaluator& evaluator, Given given) {
  return changed(evaluator, given[0].text(), [](size_t, uint32_t) { return change; });
}

Result<Value> capitalize(Evaluator& evaluator, Given given) {
  return changed(evaluator, given[0].text(), [](size_t at, uint32_t) { return at == 0 ? &title : &lower; });
}

Result<Value> title_(Evaluator& evaluator, Given given) {
  bool within = false;
  return changed(evaluator, given[0].text(),
                 [&](size_t, uint32_t code) { return std::exchange(within, cased(code)) ? &lower : &title; });
}

Result<Value> swapcase(Evaluator& evaluator, Given given) {
  return changed(evaluator, given[0].text(), [](size_t, uint32_t code) {
    return is_upper(code) ? &lower : is_lower(code) ? &upper : +[](uint32_t c) { return std::u32string(1, c); };
  });
}

// ---- ends ----

bool in_set(uint32_t code, const std::vector<uint32_t>* set) {
  return set ? std::ranges::find(*set, code) != set->end() : is_space(code);
}

template <bool left, bool right>
Result<Value> strip(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  std::vector<uint32_t> codes;
  const bool has_set = !missing(given[1]);
  if (has_set) {
    const TextPointer set = TRY(text_of(given[1], "strip's characters"));
    for_each_code(*set, 0, set->bytes.size(), [&](uint32_t code, size_t, bool) { codes.push_back(code); });
  }
  const auto* const set = has_set ? &codes : nullptr;
  size_t begin = 0, end = text.bytes.size();
  while (left && begin < end) {
    const Utf8Char c = decode_utf8(text.bytes, begin);
    if (!in_set(c.code, set)) break;
    begin += c.length;
  }
  while (right && end > begin) {
    size_t last = end - 1;
    while (last > begin && (text.bytes[last] & 0xc0) == 0x80) --last;
    if (!in_set(decode_utf8(text.bytes, last).code, set)) break;
    end = last;
  }
  CHECK_OK(evaluator.charge((text.bytes.size() - (end - begin)) * (1 + codes.size()) / 16));
  TextBuilder out;
  out.append(text, begin, end);
  return evaluator.made(out, text.markup);
}

// The bytes of text[start:end].
Result<Span> part_of(const Text& text, const Value& start, const Value& end) {
  const auto none = [](const Value& value) { return value.given() ? value : Value(); };
  const Positions positions = TRY(slice_positions(none(start), none(end), Value(), static_cast<int64_t>(text.length)));
  // An empty text is found at the end, but not beyond it.
  if (start.given() && start.is_whole() && start.integer() > static_cast<int64_t>(text.length)) return Span{1, 0};
  const auto first = static_cast<size_t>(positions.start);
  return Span{text.byte_of(first), text.byte_of(first + static_cast<size_t>(positions.count))};
}

template <bool at_start>
Result<Value> affix(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const Span part = TRY(part_of(text, given[2], given[3]));
  const std::vector<Value> wanted =
      given[1].is(Kind::tuple) ? TRY(evaluator.collect(given[1])) : std::vector<Value>{given[1]};
  for (const Value& one : wanted) {
    const TextPointer end = TRY(text_of(one, at_start ? "startswith's argument" : "endswith's argument"));
    if (part.begin > part.end) continue;
    const auto view = std::string_view(text.bytes).substr(part.begin, part.end - part.begin);
    if (at_start ? view.starts_with(end->bytes) : view.ends_with(end->bytes)) return Value(true);
  }
  return Value(false);
}

template <bool at_start>
Result<Value> remove_affix(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const TextPointer end = TRY(text_of(given[1], "its argument"));
  TextBuilder out;
  const bool has = at_start ? text.bytes.starts_with(end->bytes) : text.bytes.ends_with(end->bytes);
  const size_t less = has ? end->bytes.size() : 0;
  out.append(text, at_start ? less : 0, text.bytes.size() - (at_start ? 0 : less));
  return evaluator.made(out, text.markup);
}

// ---- search ----

template <bool last, bool must>
Result<Value> find(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const TextPointer wanted = TRY(text_of(given[1], "what is searched"));
  const Span part = TRY(part_of(text, given[2], given[3]));
  CHECK_OK(evaluator.charge(text.bytes.size() / 32));
  if (part.begin <= part.end) {
    const auto view = std::string_view(text.bytes).substr(part.begin, part.end - part.begin);
    const size_t at = last ? view.rfind(wanted->bytes) : view.find(wanted->bytes);
    if (at != std::string_view::npos)
      return Value(static_cast<int64_t>(count_code_points(std::string_view(text.bytes).substr(0, part.begin + at))));
  }
  if (must) return wrong("substring not found");
  return Value(int64_t{-1});
}

Result<Value> count(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const TextPointer wanted = TRY(text_of(given[1], "what is counted"));
  const Span part = TRY(part_of(text, given[2], given[3]));
  CHECK_OK(evaluator.charge(text.bytes.size() / 32));
  if (part.begin > part.end) return Value(int64_t{0});
  const auto view = std::string_view(text.bytes).substr(part.begin, part.end - part.begin);
  if (wanted->bytes.empty()) return Value(static_cast<int64_t>(count_code_points(view)) + 1);
  int64_t found = 0;
  for (size_t at = view.find(wanted->bytes); at != std::string_view::npos; ++found)
    at = view.find(wanted->bytes, at + wanted->bytes.size());
  return Value(found);
}

Result<Value> replace(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const TextPointer old = TRY(text_of(given[1], "replace's first argument"));
  TextPointer other = TRY(text_of(given[2], "replace's second argument"));
  if (text.markup && !other->markup) other = escaped(Value(other));
  int64_t left = TRY(whole_or(given[3], -1, "count"));
  if (left < 0) left = std::numeric_limits<int64_t>::max();
  TextBuilder out;
  const size_t limit = std::numeric_limits<size_t>::max();
  size_t at = 0;
  while (left-- > 0) {
    const size_t found = old->bytes.empty() ? at : text.bytes.find(old->bytes, at);
    if (found == std::string::npos || found > text.bytes.size()) break;
    out.append(text, at, found);
    out.append(*other);
    CHECK_OK(evaluator.charge(1 + other->bytes.size() / 32));
    at = found + old->bytes.size();
    if (!old->bytes.empty()) continue;
    if (at == text.bytes.size()) {
      at = limit;
      break;
    }
    const size_t length = decode_utf8(text.bytes, at).length;
    out.append(text, at, at + length);
    at += length;
  }
  if (at < text.bytes.size()) out.append(text, at, text.bytes.size());
  return evaluator.made(out, text.markup);
}

template <bool last>
Result<Value> partition(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const TextPointer separator = TRY(text_of(given[1], "the separator"));
  if (separator->bytes.empty()) return wrong("empty separator");
  CHECK_OK(evaluator.charge(text.bytes.size() / 16));
  const size_t at = last ? text.bytes.rfind(separator->bytes) : text.bytes.find(separator->bytes);
  const Value empty = Value::text("");
  if (at == std::string::npos) {
    return last ? make_list({empty, empty, given[0]}, Kind::tuple) : make_list({given[0], empty, empty}, Kind::tuple);
  }
  const size_t after = at + separator->bytes.size();
  return make_list(
      {Value(slice_bytes(text, 0, at)), Value(separator), Value(slice_bytes(text, after, text.bytes.size()))},
      Kind::tuple);
}

// ---- parts ----

// Spans between whitespace, or between separators; from the right the last `most` of them, in the order of the text.
std::vector<Span> split_at_space(const Text& text, int64_t most, bool from_right) {
  std::vector<Span> words;
  size_t word = 0;
  bool within = false;
  size_t at = 0;
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t length, bool) {
    if (is_space(code) && within) words.push_back({word, at});
    if (!is_space(code) && !within) word = at;
    within = !is_space(code);
    at += length;
  });
  if (within) words.push_back({word, at});
  const auto limit = static_cast<size_t>(most);
  if (most < 0 || words.size() <= limit) return words;
  if (from_right) {
    // What is left keeps the whitespace at its front, not at its back.
    const size_t joined = words.size() - limit;
    words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(joined) - 1);
    words[0].begin = 0;
  } else {
    words.resize(limit + 1);
    words[limit].end = text.bytes.size();
  }
  return words;
}

std::vector<Span> split_at(const Text& text, std::string_view separator, int64_t most, bool from_right) {
  std::vector<Span> parts;
  if (most < 0) most = std::numeric_limits<int64_t>::max();
  const std::string_view bytes = text.bytes;
  if (from_right) {
    size_t end = bytes.size();
    while (most-- > 0) {
      const size_t at =
          end < separator.size() ? std::string_view::npos : bytes.rfind(separator, end - separator.size());
      if (at == std::string_view::npos) break;
      parts.push_back({at + separator.size(), end});
      end = at;
    }
    parts.push_back({0, end});
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t begin = 0;
  while (most-- > 0) {
    const size_t at = bytes.find(separator, begin);
    if (at == std::string_view::npos) break;
    parts.push_back({begin, at});
    begin = at + separator.size();
  }
  parts.push_back({begin, bytes.size()});
  return parts;
}

Result<Value> pieces(Evaluator& evaluator, const Text& text, const std::vector<Span>& spans) {
  CHECK_OK(evaluator.charge(1 + text.bytes.size() / 16 + 2 * spans.size()));
  std::vector<Value> parts;
  for (const Span& span : spans) parts.push_back(Value(slice_bytes(text, span.begin, span.end)));
  return make_list(std::move(parts));
}

template <bool from_right>
Result<Value> split(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const int64_t most = TRY(whole_or(given[2], -1, "maxsplit"));
  if (missing(given[1])) return pieces(evaluator, text, split_at_space(text, most, from_right));
  const TextPointer separator = TRY(text_of(given[1], "the separator"));
  if (separator->bytes.empty()) return wrong("empty separator");
  return pieces(evaluator, text, split_at(text, separator->bytes, most, from_right));
}

bool ends_line(uint32_t code) {
  return (code >= 0x0a && code <= 0x0d) || (code >= 0x1c && code <= 0x1e) || code == 0x85 || code == 0x2028 ||
         code == 0x2029;
}

Result<Value> splitlines(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const bool keeps = truth(given[1]);
  std::vector<Span> lines;
  size_t begin = 0, at = 0;
  uint32_t last = 0;
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t length, bool) {
    if (code == '\n' && last == '\r') {  // one end of line with the one before
      begin = at + length;
      if (keeps) lines.back().end = at + length;
    } else if (ends_line(code)) {
      lines.push_back({begin, keeps ? at + length : at});
      begin = at + length;
    }
    last = code;
    at += length;
  });
  if (begin < text.bytes.size()) lines.push_back({begin, text.bytes.size()});
  return pieces(evaluator, text, lines);
}

Result<Value> join_method(Evaluator& evaluator, Given given) {
  const std::vector<Value> items = TRY(evaluator.collect(given[1]));
  for (const Value& item : items) TRY(text_of(item, "an item that is joined"));
  return join(evaluator, given[0].text(), items);
}

// ---- width ----

Result<Value> padded(Evaluator& evaluator, Given given, double left_share) {
  const Text& text = given[0].text();
  const int64_t width = TRY(whole(given[1], "width"));
  const TextPointer fill = given[2].given() ? TRY(text_of(given[2], "the fill character")) : make_text(" ");
  if (fill->length != 1) return wrong("The fill character must be exactly one character long");
  const int64_t pad = std::max<int64_t>(width - static_cast<int64_t>(text.length), 0);
  CHECK_OK(evaluator.charge(static_cast<uint64_t>(pad)));
  // Python's centre: the odd blank is on the left where the width is odd.
  const int64_t left = left_share == 0.5 ? pad / 2 + (pad & width & 1) : left_share == 1 ? pad : 0;
  TextBuilder out;
  for (int64_t i = 0; i < left; ++i) out.append(*fill);
  out.append(text);
  for (int64_t i = left; i < pad; ++i) out.append(*fill);
  return evaluator.made(out, text.markup);
}

Result<Value> center(Evaluator& evaluator, Given given) { return padded(evaluator, given, 0.5); }
Result<Value> ljust(Evaluator& evaluator, Given given) { return padded(evaluator, given, 0); }
Result<Value> rjust(Evaluator& evaluator, Given given) { return padded(evaluator, given, 1); }

Result<Value> zfill(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const int64_t pad = TRY(whole(given[1], "width")) - static_cast<int64_t>(text.length);
  CHECK_OK(evaluator.charge(static_cast<uint64_t>(std::max<int64_t>(pad, 0))));
  const size_t sign = text.bytes.starts_with('+') || text.bytes.starts_with('-') ? 1 : 0;
  TextBuilder out;
  out.append(text, 0, sign);
  if (pad > 0) out.append(std::string(static_cast<size_t>(pad), '0'));
  out.append(text, sign, text.bytes.size());
  return evaluator.made(out, text.markup);
}

Result<Value> expandtabs(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  const int64_t size = TRY(whole_or(given[1], 8, "tabsize"));
  TextBuilder out;
  int64_t column = 0;
  size_t at = 0;
  Result<void> failed;
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t length, bool foreign) {
    if (code == '\t') {
      const int64_t blanks = size > 0 ? size - column % size : 0;
      if (failed) failed = evaluator.charge(static_cast<uint64_t>(blanks));
      if (failed) out.append(std::string(static_cast<size_t>(blanks), ' '), foreign);
      column += blanks;
    } else {
      column = code == '\n' || code == '\r' ? 0 : column + 1;
      out.append(text, at, at + length);
    }
    at += length;
  });
  CHECK_OK(failed);
  return evaluator.made(out, text.markup);
}

// ---- what kind of characters ----

template <bool (*is)(uint32_t), bool empty>
Result<Value> all_are(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  CHECK_OK(evaluator.charge(text.bytes.size() / 16));
  bool all = empty || !text.bytes.empty();
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t, bool) { all = all && is(code); });
  return Value(all);
}

bool is_ascii(uint32_t code) { return code < 0x80; }

template <bool (*wanted)(uint32_t), bool (*other)(uint32_t)>
Result<Value> in_case(Evaluator& evaluator, Given given) {
  const Text& text = given[0].text();
  CHECK_OK(evaluator.charge(text.bytes.size() / 16));
  bool any = false, wrong_one = false;
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t, bool) {
    any |= wanted(code);
    wrong_one |= other(code) || is_title(code);
  });
  return Value(any && !wrong_one);
}

Result<Value> istitle(Evaluator&, Given given) {
  const Text& text = given[0].text();
  bool any = false, fine = true, within = false;
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t, bool) {
    const bool begins = is_upper(code) || is_title(code);
    if (begins) fine &= !within;
    if (is_lower(code)) fine &= within;
    within = begins || is_lower(code);
    any |= within;
  });
  return Value(any && fine);
}

Result<Value> isidentifier(Evaluator&, Given given) {
  const Text& text = given[0].text();
  bool fine = !text.bytes.empty(), first = true;
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t, bool) {
    fine &= std::exchange(first, false) ? is_identifier_start(code) : is_identifier(code);
  });
  return Value(fine);
}

// ---- format ----

Result<Value> format(Evaluator& evaluator, Arguments& given) {
  const Value self = given.values[0];
  given.values.erase(given.values.begin());
  return brace_format(evaluator, self.text(), given);
}

Result<Value> format_map(Evaluator& evaluator, Given given) {
  if (!given[1].is(Kind::dict)) return wrong("format_map() takes a mapping");
  Arguments values;
  for (const auto& [key, value] : given[1].dict().entries) {
    if (key.is(Kind::text)) values.named.emplace_back(key.text().bytes, value);
  }
  return brace_format(evaluator, given[0].text(), values);
}

constexpr auto kMethods = std::to_array<Builtin>({
    {"capitalize", {"self"}, 1, capitalize},
    {"casefold", {"self"}, 1, change_case<fold>},
    {"center", {"self", "width", "fillchar"}, 2, center},
    {"count", {"self", "sub", "start", "end"}, 2, count},
    {"endswith", {"self", "suffix", "start", "end"}, 2, affix<false>},
    {"expandtabs", {"self", "tabsize"}, 1, expandtabs},
    {"find", {"self", "sub", "start", "end"}, 2, find<false, false>},
    {"format", {}, 0, nullptr, format},
    {"format_map", {"self", "mapping"}, 2, format_map},
    {"index", {"self", "sub", "start", "end"}, 2, find<false, true>},
    {"isalnum", {"self"}, 1, all_are<is_alnum, false>},
    {"isalpha", {"self"}, 1, all_are<is_alpha, false>},
    {"isascii", {"self"}, 1, all_are<is_ascii, true>},
    {"isdecimal", {"self"}, 1, all_are<is_decimal, false>},
    {"isdigit", {"self"}, 1, all_are<is_digit, false>},
    {"isidentifier", {"self"}, 1, isidentifier},
    {"islower", {"self"}, 1, in_case<is_lower, is_upper>},
    {"isnumeric", {"self"}, 1, all_are<is_numeric, false>},
    {"isprintable", {"self"}, 1, all_are<is_printable, true>},
    {"isspace", {"self"}, 1, all_are<is_space, false>},
    {"istitle", {"self"}, 1, istitle},
    {"isupper", {"self"}, 1, in_case<is_upper, is_lower>},
    {"join", {"self", "iterable"}, 2, join_method},
    {"ljust", {"self", "width", "fillchar"}, 2, ljust},
    {"lower", {"self"}, 1, change_case<lower>},
    {"lstrip", {"self", "chars"}, 1, strip<true, false>},
    {"partition", {"self", "sep"}, 2, partition<false>},
    {"removeprefix", {"self", "prefix"}, 2, remove_affix<true>},
    {"removesuffix", {"self", "suffix"}, 2, remove_affix<false>},
    {"replace", {"self", "old", "new", "count"}, 3, replace},
    {"rfind", {"self", "sub", "start", "end"}, 2, find<true, false>},
    {"rindex", {"self", "sub", "start", "end"}, 2, find<true, true>},
    {"rjust", {"self", "width", "fillchar"}, 2, rjust},
    {"rpartition", {"self", "sep"}, 2, partition<true>},
    {"rsplit", {"self", "sep", "maxsplit"}, 1, split<true>},
    {"rstrip", {"self", "chars"}, 1, strip<false, true>},
    {"split", {"self", "sep", "maxsplit"}, 1, split<false>},
    {"splitlines", {"self", "keepends"}, 1, splitlines},
    {"startswith", {"self", "prefix", "start", "end"}, 2, affix<true>},
    {"strip", {"self", "chars"}, 1, strip<true, true>},
    {"swapcase", {"self"}, 1, swapcase},
    {"title", {"self"}, 1, title_},
    {"upper", {"self"}, 1, change_case<upper>},
    {"zfill", {"self", "width"}, 2, zfill},
});

}  // namespace

Result<Value> join(Evaluator& evaluator, const Text& separator, std::span<const Value> items) {
  TextBuilder out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out.append(separator);
    out.append(separator.markup && items[i].is(Kind::text) && !items[i].text().markup ? *escaped(items[i])
                                                                                      : *to_text(items[i]));
  }
  return evaluator.made(out, separator.markup);
}

std::span<const Builtin> text_methods() { return kMethods; }

}  // namespace thimble::jinja
