// str() and repr() as Python writes them.
#include <array>
#include <charconv>
#include <cmath>

#include "text/jinja/characters.h"
#include "text/jinja/value.h"

namespace thimble::jinja {
namespace {

void write_quoted(const Text& text, TextBuilder& to) {
  const bool has_single = text.bytes.find('\'') != std::string::npos;
  const bool has_double = text.bytes.find('"') != std::string::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  const std::string_view quotes(&quote, 1);
  to.append(quotes);
  size_t at = 0;
  for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t length, bool foreign) {
    if (code == static_cast<unsigned char>(quote) || code == '\\') {
      to.append("\\");
      to.append(text, at, at + length);
    } else if (code == '\n' || code == '\r' || code == '\t') {
      to.append(code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t", foreign);
    } else if (!is_printable(code)) {
      to.append(code < 0x100     ? fmt::format("\\x{:02x}", code)
                : code < 0x10000 ? fmt::format("\\u{:04x}", code)
                                 : fmt::format("\\U{:08x}", code),
                foreign);
    } else {
      to.append(text, at, at + length);
    }
    at += length;
  });
  to.append(quotes);
}

void write_items(std::span<const Value> items, std::string_view open, std::string_view close, TextBuilder& to) {
  to.append(open);
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) to.append(", ");
    write_repr(items[i], to);
  }
  to.append(close);
}

void write_entries(std::span<const Dict::Entry> entries, TextBuilder& to) {
  to.append("{");
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) to.append(", ");
    write_repr(entries[i].first, to);
    to.append(": ");
    write_repr(entries[i].second, to);
  }
  to.append("}");
}

void write_range(const Range& range, TextBuilder& to) {
  to.append(range.step == 1 ? fmt::format("range({}, {})", range.start, range.stop)
                            : fmt::format("range({}, {}, {})", range.start, range.stop, range.step));
}

void write_view(const List& view, TextBuilder& to) {
  to.append(view.name);
  to.append("(");
  write_items(view.items, "[", "]", to);
  to.append(")");
}

// Namespaces may hold each other, and themselves.
void write_names(const Names& names, TextBuilder& to) {
  constexpr int kDeepestNames = 50;
  // Of 8 bytes: behind one of 4 at the end of a page, mold 1.10 makes a program that ld.so refuses (its RELRO part
  // begins on a page that is not mapped).
  static thread_local int64_t depth = 0;
  to.append("<Namespace ");
  if (depth == kDeepestNames) {
    to.append("{...}");
  } else {
    ++depth;
    write_entries(names.attributes, to);
    --depth;
  }
  to.append(">");
}

}  // namespace

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> digits{};  // ends with zeros, for atoi
  const auto end = std::to_chars(digits.begin(), digits.end(), value, std::chars_format::scientific).ptr;
  const std::string_view text(digits.data(), static_cast<size_t>(end - digits.begin()));
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.data() + e + 1);
  if (exponent < -4 || exponent >= 16) {
    return fmt::format("{}e{}{:02}", text.substr(0, e), exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  const auto fixed = std::to_chars(digits.begin(), digits.end(), value, std::chars_format::fixed).ptr;
  std::string out(digits.begin(), fixed);
  return out.find('.') == std::string::npos ? out + ".0" : out;
}

void write_repr(const Value& value, TextBuilder& to) {
  switch (value.kind()) {
    case Kind::absent:
    case Kind::undefined:
      return to.append("Undefined");
    case Kind::none:
      return to.append("None");
    case Kind::boolean:
      return to.append(value.integer() ? "True" : "False");
    case Kind::integer:
      return to.append(fmt::format("{}", value.integer()));
    case Kind::real:
      return to.append(float_text(value.real()));
    case Kind::text:
      if (value.text().markup) to.append("Markup(");
      write_quoted(value.text(), to);
      if (value.text().markup) to.append(")");
      return;
    case Kind::list:
      return write_items(value.list().items, "[", "]", to);
    case Kind::tuple:
      return write_items(value.list().items, "(", value.list().items.size() == 1 ? ",)" : ")", to);
    case Kind::view:
      return write_view(value.list(), to);
    case Kind::dict:
      return write_entries(value.dict().entries, to);
    case Kind::range:
      return write_range(value.range(), to);
    case Kind::names:
      return write_names(value.names(), to);
    default:
      return to.append(fmt::format("<{} object>", type_name(value)));
  }
}

void write_text(const Value& value, TextBuilder& to) {
  if (value.is(Kind::text)) return to.append(value.text());
  if (value.is(Kind::undefined) || value.is(Kind::absent)) return;
  write_repr(value, to);
}

TextPointer to_text(const Value& value) {
  if (value.is(Kind::text)) return std::static_pointer_cast<const Text>(value.pointer());
  TextBuilder builder;
  write_text(value, builder);
  return builder.finish();
}

}  // namespace thimble::jinja
