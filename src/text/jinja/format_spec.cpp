#include "text/jinja/format_spec.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/builtins.h"

namespace thimble::jinja {
namespace {

constexpr int64_t kWidest = 100'000;
constexpr int64_t kMostDigits = 1000;

bool is_align(uint32_t code) { return code == '<' || code == '>' || code == '^' || code == '='; }

Result<int64_t> number_at(std::string_view text, size_t& at, int64_t most, std::string_view what) {
  int64_t number = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    number = number * 10 + (text[at] - '0');
    if (number > most) return wrong(fmt::format("a {} of more than {}", what, most));
  }
  return number;
}

// The digits before the point, parted from the right.
std::string grouped(std::string digits, char mark, size_t each) {
  size_t end = std::min(digits.find_first_not_of("0123456789abcdefABCDEF"), digits.size());
  if (each == 3) end = std::min(digits.find_first_not_of("0123456789"), digits.size());
  for (size_t at = end; at > each; at -= each) digits.insert(at - each, 1, mark);
  return digits;
}

std::string printed(const char* format, int64_t precision, double value) {
  std::string text(static_cast<size_t>(precision) + 400, '\0');
  text.resize(static_cast<size_t>(std::snprintf(text.data(), text.size(), format, static_cast<int>(precision), value)));
  return text;
}

Result<std::string> real_digits(double value, const FormatSpec& spec) {
  const char type = spec.type;
  std::string text;
  if (!std::isfinite(value)) {
    text = std::isnan(value) ? "nan" : "inf";
  } else if (type == '\0' && spec.precision < 0) {
    text = float_text(value);
  } else if (type == '\0') {
    // As g, with a digit after the point at least where there is no exponent.
    text = printed("%.*g", std::max<int64_t>(spec.precision, 1), value);
    if (text.find_first_of(".e") == std::string::npos) {
      const bool full = static_cast<int64_t>(text.size()) >= std::max<int64_t>(spec.precision, 1);
      if (full) {
        text = printed("%.*e", std::max<int64_t>(spec.precision, 1) - 1, value);
        const size_t e = text.find('e');
        while (text.find('.') < e && (text[text.find('e') - 1] == '0' || text[text.find('e') - 1] == '.'))
          text.erase(text.find('e') - 1, 1);
        if (spec.precision > 0 && std::fabs(value) < std::pow(10.0, static_cast<double>(spec.precision - 1)))
          text = printed("%.*g", spec.precision, value) + ".0";
      } else {
        text += ".0";
      }
    }
  } else {
    const int64_t precision = spec.precision < 0 ? 6 : spec.precision;
    const std::string flags = spec.alternate ? "%#.*" : "%.*";
    const char letter = type == '%' ? 'f' : type == 'n' ? 'g' : type;
    text = printed((flags + letter).c_str(), precision, type == '%' ? value * 100 : value);
  }
  if (std::string_view("EFG").find(type) != std::string_view::npos && type != '\0')
    std::ranges::transform(text, text.begin(),
                           [](char c) { return static_cast<char>(std::toupper(static_cast<unsigned char>(c))); });
  if (type == '%') text += '%';
  return spec.group ? grouped(std::move(text), spec.group, 3) : text;
}

Result<std::string> whole_digits(uint64_t value, const FormatSpec& spec) {
  switch (spec.type) {
    case '\0':
    case 'd':
    case 'n':
      return spec.group ? grouped(fmt::format("{}", value), spec.group, 3) : fmt::format("{}", value);
    case 'b':
    case 'o':
    case 'x':
    case 'X': {
      if (spec.group == ',') return wrong(fmt::format("Cannot specify ',' with '{}'.", spec.type));
      std::string text = spec.type == 'b'   ? fmt::format("{:b}", value)
                         : spec.type == 'o' ? fmt::format("{:o}", value)
                         : spec.type == 'x' ? fmt::format("{:x}", value)
                                            : fmt::format("{:X}", value);
      if (spec.group) text = grouped(std::move(text), spec.group, 4);
      return text;
    }
    default:
      return wrong(fmt::format("Unknown format code '{}' for object of type 'int'", spec.type));
  }
}

Result<void> write_number(Evaluator& evaluator, const Value& value, const FormatSpec& spec, TextBuilder& to) {
  const bool real = value.is(Kind::real);
  const bool minus = real ? std::signbit(value.real()) && !std::isnan(value.real()) : value.integer() < 0;
  std::string text = minus ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
  const std::string_view bases = "boxX";
  if (spec.alternate && !real && spec.type != '\0' && bases.find(spec.type) != std::string_view::npos)
    text += std::string("0") + spec.type;
  const size_t sign_length = text.size();
  std::string digits = TRY(digits_of(value, spec));
  const char align = spec.align ? spec.align : spec.zeros ? '=' : '>';
  const bool zero_filled = align == '=' && (spec.zeros || (spec.fill && spec.fill->bytes == "0"));
  if (spec.group && zero_filled) {
    // Zeros are parted too: as many as the width holds.
    while (static_cast<int64_t>(sign_length + digits.size()) < spec.width) {
      std::string more = digits;
      std::erase(more, spec.group);
      more = grouped("0" + more, spec.group, spec.type == '\0' || spec.type == 'd' || real ? 3 : 4);
      if (static_cast<int64_t>(sign_length + more.size()) > spec.width + 1) break;
      digits = more;
    }
  }
  return write_padded(evaluator, *make_text(text + digits), sign_length, spec, '>', to);
}

Result<void> write_string(Evaluator& evaluator, const Text& text, const FormatSpec& spec, TextBuilder& to) {
  if (spec.type != '\0' && spec.type != 's')
    return wrong(fmt::format("Unknown format code '{}' for object of type 'str'", spec.type));
  if (spec.align == '=') return wrong("'=' alignment not allowed in string format specifier");
  if (spec.group || spec.sign != '-' || spec.alternate) return wrong("a string has no sign and no groups");
  if (spec.precision >= 0 && static_cast<int64_t>(text.length) > spec.precision) {
    const TextPointer cut = slice_bytes(text, 0, text.byte_of(static_cast<size_t>(spec.precision)));
    return write_padded(evaluator, *cut, 0, spec, '<', to);
  }
  return write_padded(evaluator, text, 0, spec, '<', to);
}

}  // namespace

Result<void> append_character(int64_t code, TextBuilder& to) {
  if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
    return wrong(fmt::format("{} is the number of no character", code));
  to.append_code(static_cast<uint32_t>(code), false);
  return {};
}

Result<std::string> digits_of(const Value& value, const FormatSpec& spec) {
  const std::string_view real_types = "eEfFgG%";
  const bool as_real = spec.type != '\0' && real_types.find(spec.type) != std::string_view::npos;
  if (spec.precision > kMostDigits) return wrong(fmt::format("a precision of more than {}", kMostDigits));
  if (value.is(Kind::real) || as_real) {
    if (!as_real && spec.type != '\0' && spec.type != 'n')
      return wrong(fmt::format("Unknown format code '{}' for object of type 'float'", spec.type));
    return real_digits(std::fabs(value.real()), spec);
  }
  if (spec.precision >= 0) return wrong("Precision not allowed in integer format specifier");
  const auto number = static_cast<uint64_t>(value.integer());
  return whole_digits(value.integer() < 0 ? ~number + 1 : number, spec);
}

Result<void> write_padded(Evaluator& evaluator, const Text& text, size_t sign_length, const FormatSpec& spec,
                          char standard, TextBuilder& to) {
  const int64_t pad = std::max<int64_t>(spec.width - static_cast<int64_t>(text.length), 0);
  CHECK_OK(evaluator.charge(1 + static_cast<uint64_t>(pad) / 8 + text.bytes.size() / 32));
  const bool zeros = spec.zeros && !spec.fill;
  const char align = spec.align ? spec.align : zeros && standard == '>' ? '=' : standard;
  const TextPointer fill = spec.fill ? spec.fill : make_text(zeros ? "0" : " ");
  const int64_t before = align == '<' ? 0 : align == '^' ? pad / 2 : pad;
  if (align == '=') to.append(text, 0, sign_length);
  for (int64_t i = 0; i < before; ++i) to.append(*fill);
  to.append(text, align == '=' ? sign_length : 0, text.bytes.size());
  for (int64_t i = before; i < pad; ++i) to.append(*fill);
  return {};
}

Result<FormatSpec> parse_spec(const Text& text) {
  FormatSpec spec;
  const std::string_view bytes = text.bytes;
  size_t at = 0;
  if (!bytes.empty()) {
    const size_t first = decode_utf8(bytes, 0).length;
    if (first < bytes.size() && is_align(static_cast<unsigned char>(bytes[first]))) {
      spec.fill = slice_bytes(text, 0, first);
      spec.align = bytes[first];
      at = first + 1;
    } else if (is_align(static_cast<unsigned char>(bytes[0]))) {
      spec.align = bytes[at++];
    }
  }
  const auto skip = [&](char c) { return at < bytes.size() && bytes[at] == c ? (++at, true) : false; };
  if (at < bytes.size() && std::string_view("+- ").find(bytes[at]) != std::string_view::npos) spec.sign = bytes[at++];
  skip('z');
  spec.alternate = skip('#');
  spec.zeros = skip('0');
  spec.width = TRY(number_at(bytes, at, kWidest, "width"));
  if (skip(',')) spec.group = ',';
  if (skip('_')) spec.group = '_';
  if (skip('.')) {
    const size_t before = at;
    spec.precision = TRY(number_at(bytes, at, kWidest, "precision"));
    if (at == before) return wrong("Format specifier missing precision");
  }
  if (at < bytes.size()) spec.type = bytes[at++];
  if (at < bytes.size()) return wrong("Invalid format specifier");
  return spec;
}

Result<void> write_formatted(Evaluator& evaluator, const Value& value, const FormatSpec& spec, TextBuilder& to) {
  if (value.is(Kind::text)) return write_string(evaluator, value.text(), spec, to);
  const bool plain = spec.type == '\0' && spec.width == 0 && spec.precision < 0 && !spec.align && !spec.group &&
                     spec.sign == '-' && !spec.alternate && !spec.zeros;
  if (plain) return write_text(value, to), Result<void>();
  if (value.is_whole() && spec.type == 'c') {
    TextBuilder one;
    CHECK_OK(append_character(value.integer(), one));
    return write_padded(evaluator, *one.finish(), 0, spec, '>', to);
  }
  if (value.is_number()) return write_number(evaluator, value, spec, to);
  return wrong(fmt::format("unsupported format string passed to {}.__format__", type_name(value)));
}

}  // namespace thimble::jinja
