// Filters of numbers.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "text/jinja/builtins.h"
#include "text/jinja/characters.h"
#include "text/jinja/evaluator.h"
#include "text/utf8.h"

namespace thimble::jinja {
namespace {

using Given = std::span<Value>;

// Decimal digits come in runs of ten, from 0 on.
char ascii_digit(uint32_t code) {
  uint32_t first = code;
  while (is_decimal(first - 1)) --first;
  return static_cast<char>('0' + (code - first) % 10);
}

// Digits and spaces of any script as ASCII's.
std::string digits_in_ascii(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (is_space(c.code))
      out += ' ';
    else if (is_decimal(c.code))
      out += ascii_digit(c.code);
    else
      out += text.substr(at, c.length);
    at += c.length;
  }
  return out;
}

// As Python reads numbers: in a text of ASCII alone, which is not looked at so, C's white space only is space.
std::string stripped(std::string_view given) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const bool ascii = std::ranges::all_of(given, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  const std::string text = ascii ? std::string(given) : digits_in_ascii(given);
  const size_t begin = std::min(text.find_first_not_of(kSpace), text.size());
  return text.substr(begin, text.find_last_not_of(kSpace) + 1 - begin);
}

// Without its underscores, each of which stands between digits; nothing where one does not.
std::optional<std::string> without_underscores(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const auto digit = [&](size_t at) {
      return at < text.size() && std::isalnum(static_cast<unsigned char>(text[at]));
    };
    if (i == 0 || !digit(i - 1) || !digit(i + 1)) return std::nullopt;
  }
  return out;
}

// Python's int(text, base); nothing where it raises ValueError.
std::optional<int64_t> parse_whole(std::string_view given, int64_t base) {
  auto text = without_underscores(stripped(given));
  if (!text) return std::nullopt;
  const bool minus = text->starts_with('-');
  if (minus || text->starts_with('+')) text->erase(0, 1);
  const char mark = text->size() > 1 && (*text)[0] == '0' ? static_cast<char>((*text)[1] | 0x20) : '\0';
  const int64_t marked = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
  if (marked != 0 && (base == marked || base == 0)) {
    text->erase(0, 2);
    base = marked;
  }
  if (base == 0) {
    if (text->size() > 1 && (*text)[0] == '0' && text->find_first_not_of('0') != std::string::npos) return std::nullopt;
    base = 10;
  }
  if (base < 2 || base > 36) return std::nullopt;
  int64_t number = 0;
  const std::string signed_text = (minus ? "-" : "") + *text;
  const auto [end, error] =
      std::from_chars(signed_text.data(), signed_text.data() + signed_text.size(), number, static_cast<int>(base));
  if (error != std::errc() || end != signed_text.data() + signed_text.size() || text->empty() ||
      !std::isalnum(static_cast<unsigned char>((*text)[0])))
    return std::nullopt;
  return number;
}

// Python's float(text).
std::optional<double> parse_real(std::string_view given) {
  auto text = without_underscores(stripped(given));
  if (!text || text->empty()) return std::nullopt;
  std::string lower = *text;
  std::ranges::transform(lower, lower.begin(),
                         [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  const size_t sign = lower[0] == '-' || lower[0] == '+' ? 1 : 0;
  const std::string_view word = std::string_view(lower).substr(sign);
  const double factor = lower[0] == '-' ? -1 : 1;
  if (word == "inf" || word == "infinity") return factor * INFINITY;
  if (word == "nan") return NAN;
  if (word.find_first_not_of("0123456789.e+-") != std::string_view::npos) return std::nullopt;
  char* end = nullptr;
  const double number = std::strtod(lower.c_str(), &end);
  return end == lower.c_str() + lower.size() ? std::optional(number) : std::nullopt;
}

// Python's float(value), for what it takes.
std::optional<double> real_of(const Value& value) {
  if (value.is_number()) return value.real();
  return value.is(Kind::text) ? parse_real(value.bytes()) : std::nullopt;
}

Result<std::optional<Value>> truncated(double number) {
  if (std::isnan(number)) return std::nullopt;
  if (std::isinf(number)) return std::nullopt;
  if (std::fabs(number) >= 9.2e18) return wrong("integers beyond 64 bits are not supported");
  return Value(static_cast<int64_t>(number));
}

Result<Value> int_(Evaluator&, Given given) {
  const Value& value = given[0];
  if (value.is(Kind::undefined)) return wrong(value.undefined().message);
  const Value otherwise = given[1].given() ? given[1] : Value(int64_t{0});
  if (value.is_whole()) return Value(value.integer());
  if (value.is(Kind::real) && std::isinf(value.real())) return wrong("cannot convert float infinity to integer");
  if (value.is(Kind::text)) {
    if (const auto number = parse_whole(value.bytes(), TRY(whole_or(given[2], 10, "base")))) return Value(*number);
  }
  const auto number = real_of(value);
  if (!number) return otherwise;
  const auto whole = TRY(truncated(*number));
  return whole ? *whole : otherwise;
}

Result<Value> float_(Evaluator&, Given given) {
  if (given[0].is(Kind::undefined)) return wrong(given[0].undefined().message);
  if (const auto number = real_of(given[0])) return Value(*number);
  return given[1].given() ? given[1] : Value(0.0);
}

Result<Value> abs_(Evaluator&, Given given) {
  if (given[0].is(Kind::real)) return Value(std::fabs(given[0].real()));
  if (!given[0].is_whole()) {
    if (given[0].is(Kind::undefined)) return wrong(given[0].undefined().message);
    return wrong(fmt::format("bad operand type for abs(): '{}'", type_name(given[0])));
  }
  return negative(Value(given[0].integer()), given[0].integer() < 0);
}

// Python's round(): to the nearest decimal, by the exact value of the number; halves to the even digit.
Value rounded(double value, int64_t digits) {
  if (!std::isfinite(value) || digits > 300) return Value(value);
  if (digits < -308) return Value(std::copysign(0.0, value));
  if (digits >= 0) return Value(std::strtod(fmt::format("{:.{}f}", value, digits).c_str(), nullptr));
  const double scale = std::pow(10.0, static_cast<double>(-digits));
  return Value(std::nearbyint(value / scale) * scale);
}

Value rounded(int64_t value, int64_t digits) {
  if (digits >= 0) return Value(value);
  if (digits < -18) return Value(int64_t{0});
  int64_t scale = 1;
  for (int64_t i = 0; i < -digits; ++i) scale *= 10;
  const int64_t rest = ((value % scale) + scale) % scale, low = value - rest;
  const bool up = 2 * rest > scale || (2 * rest == scale && (low / scale) % 2 != 0);
  return Value(up ? low + scale : low);
}

Result<Value> round_(Evaluator& evaluator, Given given) {
  const int64_t digits = TRY(whole_or(given[1], 0, "precision"));
  const std::string method = given[2].given() ? to_text(given[2])->bytes : "common";
  if (method != "common" && method != "ceil" && method != "floor") return wrong("method must be common, ceil or floor");
  if (!given[0].is_number()) {
    if (given[0].is(Kind::undefined)) return wrong(given[0].undefined().message);
    return wrong(fmt::format("type {} doesn't define __round__ method", type_name(given[0])));
  }
  if (method == "common")
    return given[0].is(Kind::real) ? rounded(given[0].real(), digits) : rounded(given[0].integer(), digits);
  const Value scale = TRY(binary(evaluator, What::power, Value(int64_t{10}), Value(digits)));
  const Value scaled = TRY(binary(evaluator, What::multiply, given[0], scale));
  const double edge = method == "ceil" ? std::ceil(scaled.real()) : std::floor(scaled.real());
  const auto whole = TRY(truncated(edge));
  if (!whole) return wrong("cannot convert float to integer");
  return binary(evaluator, What::divide, *whole, scale);
}

Result<Value> filesizeformat(Evaluator&, Given given) {
  const auto bytes = real_of(given[0]);
  if (!bytes) return wrong("filesizeformat is of a number");
  const bool binary = truth(given[1]);
  const double base = binary ? 1024 : 1000;
  if (*bytes == 1) return Value::text("1 Byte");
  if (*bytes < base) return Value::text(fmt::format("{} Bytes", static_cast<int64_t>(*bytes)));
  constexpr std::string_view kPrefixes = "kMGTPEZY";
  double unit = base;
  size_t i = 0;
  for (; i < kPrefixes.size(); ++i) {
    unit *= base;
    if (*bytes < unit || i + 1 == kPrefixes.size()) break;
  }
  const std::string prefix = binary && i == 0 ? "K" : std::string(1, kPrefixes[i]);
  return Value::text(fmt::format("{:.1f} {}{}", base * *bytes / unit, prefix, binary ? "iB" : "B"));
}

constexpr auto kFilters = std::to_array<Builtin>({
    {"abs", {"x"}, 1, abs_},
    {"filesizeformat", {"value", "binary"}, 1, filesizeformat},
    {"float", {"value", "default"}, 1, float_},
    {"int", {"value", "default", "base"}, 1, int_},
    {"round", {"value", "precision", "method"}, 1, round_},
});

}  // namespace

std::span<const Builtin> number_filters() { return kFilters; }

}  // namespace thimble::jinja
