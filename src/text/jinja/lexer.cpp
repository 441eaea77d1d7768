#include "text/jinja/lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "text/jinja/characters.h"
#include "text/jinja/string_literal.h"
#include "text/utf8.h"

namespace thimble::jinja {
namespace {

constexpr std::array kSigns =
    std::to_array<std::string_view>({"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                     "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"});

bool is_ascii_digit(char byte) { return byte >= '0' && byte <= '9'; }

// With line feeds for all ends of lines, and without the one at the very end.
std::string normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r' && i + 1 < source.size() && source[i + 1] == '\n') continue;
    out += source[i] == '\r' ? '\n' : source[i];
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)) {}

  Result<std::vector<Token>> run() {
    while (at_ < source_.size()) CHECK_OK(root());
    add(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest() const { return std::string_view(source_).substr(at_); }

  size_t skip_space(size_t at) const {
    while (at < source_.size()) {
      const Utf8Char c = decode_utf8(source_, at);
      if (!is_space(c.code)) break;
      at += c.length;
    }
    return at;
  }

  void add(TokenKind kind, std::string text) { tokens_.push_back({kind, line_, std::move(text)}); }

  void advance(size_t to) {
    line_ += static_cast<uint32_t>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(at_),
                                              source_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    line_starting_ = to > at_ && source_[to - 1] == '\n';
    at_ = to;
  }

  void add_data(std::string_view text) {
    if (!text.empty()) add(TokenKind::data, std::string(text));
  }

  // What is left of the text before a tag, whose sign for whitespace is '-', '+' or 0.
  std::string_view before_tag(std::string_view text, char sign, bool variable) const {
    if (sign == '-') {
      while (!text.empty()) {
        size_t last = text.size() - 1;
        while (last > 0 && (text[last] & 0xc0) == 0x80) --last;
        if (!is_space(decode_utf8(text, last).code)) break;
        text = text.substr(0, last);
      }
      return text;
    }
    if (sign == '+' || variable) return text;
    const size_t feed = text.rfind('\n');
    if (feed == std::string_view::npos && !line_starting_) return text;
    const size_t line = feed == std::string_view::npos ? 0 : feed + 1;
    for (size_t at = line; at < text.size();) {
      const Utf8Char c = decode_utf8(text, at);
      if (!is_space(c.code)) return text;
      at += c.length;
    }
    return text.substr(0, line);
  }

  // Where a tag opens from `from` on.
  size_t find_tag(size_t from) const {
    for (size_t at = source_.find('{', from); at != std::string::npos; at = source_.find('{', at + 1)) {
      if (at + 1 < source_.size() && std::string_view("%{#").find(source_[at + 1]) != std::string_view::npos) return at;
    }
    return std::string::npos;
  }

  char sign_at(size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : '\0';
  }

  Result<void> root() {
    const size_t open = find_tag(at_);
    const std::string_view text = rest().substr(0, open == std::string::npos ? open : open - at_);
    if (open == std::string::npos) {
      add_data(text);
      advance(source_.size());
      return {};
    }
    const char sign = sign_at(open + 2);
    const size_t inside = open + 2 + (sign ? 1 : 0);
    const char kind = source_[open + 1];
    add_data(before_tag(text, sign, kind == '{'));
    if (kind == '%') {
      if (const auto after = raw_begin(inside)) {
        advance(*after);
        return raw();
      }
    }
    if (kind != '#') {
      advance(open);
      add(kind == '{' ? TokenKind::variable_begin : TokenKind::block_begin, "");
    }
    advance(inside);
    return kind == '#' ? comment() : expression(kind == '{');
  }

  // The end of "raw %}" at `at`.
  std::optional<size_t> raw_begin(size_t at) const {
    at = skip_space(at);
    if (!std::string_view(source_).substr(at).starts_with("raw")) return std::nullopt;
    at = skip_space(at + 3);
    const auto end = std::string_view(source_).substr(at);
    if (end.starts_with("-%}")) return skip_space(at + 3);
    if (end.starts_with("%}")) return at + 2;
    return std::nullopt;
  }

  // Past the end of a block at `at`: "%}" with a line feed, "-%}" with whitespace, "+%}".
  std::optional<size_t> block_end(size_t at, std::string_view close = "%}") const {
    const auto end = std::string_view(source_).substr(at);
    if (end.starts_with(close)) return at + 2 + (at + 2 < source_.size() && source_[at + 2] == '\n' ? 1 : 0);
    if (end.size() > 1 && end.substr(1).starts_with(close)) {
      if (end[0] == '-') return skip_space(at + 3);
      if (end[0] == '+') return at + 3;
    }
    return std::nullopt;
  }

  Result<void> raw() {
    for (size_t open = source_.find("{%", at_); open != std::string::npos; open = source_.find("{%", open + 2)) {
      const char sign = sign_at(open + 2);
      size_t at = skip_space(open + 2 + (sign ? 1 : 0));
      if (!std::string_view(source_).substr(at).starts_with("endraw")) continue;
      at = skip_space(at + 6);
      const auto after = block_end(at);
      if (!after) continue;
      add_data(before_tag(rest().substr(0, open - at_), sign, false));
      advance(*after);
      return {};
    }
    return syntax_error(line_, "Missing end of raw directive");
  }

  Result<void> comment() {
    const size_t close = source_.find("#}", at_);
    if (close == std::string::npos) return syntax_error(line_, "Missing end of comment tag");
    const bool has_sign = close > at_ && sign_at(close - 1);
    advance(*block_end(has_sign ? close - 1 : close, "#}"));
    return {};
  }

  std::optional<size_t> tag_end(bool variable) const {
    if (!variable) return block_end(at_);
    if (rest().starts_with("}}")) return at_ + 2;
    if (rest().starts_with("-}}")) return skip_space(at_ + 3);
    return std::nullopt;
  }

  Result<void> expression(bool variable) {
    brackets_.clear();
    while (at_ < source_.size()) {
      if (const auto after = brackets_.empty() ? tag_end(variable) : std::nullopt) {
        add(variable ? TokenKind::variable_end : TokenKind::block_end, "");
        advance(*after);
        return {};
      }
      const size_t space = skip_space(at_);
      if (space > at_) {
        advance(space);
        continue;
      }
      CHECK_OK(token());
    }
    return {};
  }

  Result<void> token() {
    const char first = source_[at_];
    if (is_ascii_digit(first)) return number();
    const Utf8Char c = decode_utf8(source_, at_);
    if (is_identifier(c.code)) return name();
    if (first == '"' || first == '\'') return string(first);
    for (std::string_view sign : kSigns) {
      if (!rest().starts_with(sign)) continue;
      CHECK_OK(balance(sign));
      add(TokenKind::sign, std::string(sign));
      advance(at_ + sign.size());
      return {};
    }
    return syntax_error(line_, fmt::format("unexpected char '{}'", rest().substr(0, c.length)));
  }

  Result<void> balance(std::string_view sign) {
    if (sign == "{") brackets_ += '}';
    if (sign == "(") brackets_ += ')';
    if (sign == "[") brackets_ += ']';
    if (sign != "}" && sign != ")" && sign != "]") return {};
    if (brackets_.empty()) return syntax_error(line_, fmt::format("unexpected '{}'", sign));
    if (brackets_.back() != sign[0])
      return syntax_error(line_, fmt::format("unexpected '{}', expected '{}'", sign, brackets_.back()));
    brackets_.pop_back();
    return {};
  }

  Result<void> name() {
    const uint32_t first = decode_utf8(source_, at_).code;
    size_t end = at_;
    while (end < source_.size()) {
      const Utf8Char c = decode_utf8(source_, end);
      if (!c.valid || !is_identifier(c.code)) break;
      end += c.length;
    }
    if (!is_identifier_start(first)) return syntax_error(line_, "Invalid character in identifier");
    add(TokenKind::name, source_.substr(at_, end - at_));
    advance(end);
    return {};
  }

  Result<void> string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) return syntax_error(line_, fmt::format("unexpected char '{}'", quote));
    auto text = unescaped(std::string_view(source_).substr(at_ + 1, end - at_ - 1));
    if (!text) return syntax_error(line_, text.error().message);
    add(TokenKind::string, *std::move(text));
    advance(end + 1);
    return {};
  }

  // The end of digits that single underscores may part, from `at` on; `at` where there is none.
  template <class IsDigit>
  size_t digits(size_t at, IsDigit is_digit) const {
    size_t end = at;
    for (;;) {
      const size_t next = end > at && end < source_.size() && source_[end] == '_' ? end + 1 : end;
      if (next >= source_.size() || !is_digit(source_[next])) return end;
      end = next + 1;
    }
  }

  // The end of a number with a fraction or an exponent at the place, or 0.
  size_t real_end() const {
    if (at_ > 0 && source_[at_ - 1] == '.') return 0;
    size_t end = digits(at_, is_ascii_digit);
    size_t fraction = end;
    if (end < source_.size() && source_[end] == '.') fraction = digits(end + 1, is_ascii_digit);
    const bool has_fraction = fraction > end + 1;
    if (has_fraction) end = fraction;
    size_t power = end;
    if (power < source_.size() && (source_[power] == 'e' || source_[power] == 'E')) {
      ++power;
      if (power < source_.size() && (source_[power] == '+' || source_[power] == '-')) ++power;
      if (const size_t after = digits(power, is_ascii_digit); after > power) return after;
    }
    return has_fraction ? end : 0;
  }

  Result<void> number() {
    const auto plain = [&](size_t from, size_t to) {
      std::string text = source_.substr(from, to - from);
      std::erase(text, '_');
      return text;
    };
    if (const size_t end = real_end()) {
      const std::string text = plain(at_, end);
      add(TokenKind::real, "");
      tokens_.back().real = std::strtod(text.c_str(), nullptr);
      advance(end);
      return {};
    }
    int base = 10;
    size_t begin = at_, end = 0;
    const char mark =
        at_ + 1 < source_.size() && source_[at_] == '0' ? static_cast<char>(source_[at_ + 1] | 0x20) : '\0';
    if (mark == 'x' || mark == 'o' || mark == 'b') {
      base = mark == 'x' ? 16 : mark == 'o' ? 8 : 2;
      begin = at_ + 2 + (at_ + 2 < source_.size() && source_[at_ + 2] == '_' ? 1 : 0);
      end = digits(begin, [base](char c) {
        const int digit = is_ascii_digit(c)                        ? c - '0'
                          : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                                   : 99;
        return digit < base;
      });
    }
    if (end <= begin) {  // not such a number after all
      base = 10;
      begin = at_;
      end = digits(at_, [zero = source_[at_] == '0'](char c) { return zero ? c == '0' : is_ascii_digit(c); });
    }
    const std::string text = plain(begin, end);
    add(TokenKind::integer, "");
    if (std::from_chars(text.data(), text.data() + text.size(), tokens_.back().integer, base).ec != std::errc())
      return syntax_error(line_, fmt::format("the number {} does not fit 64 bits", text));
    advance(end);
    return {};
  }

  const std::string source_;
  std::vector<Token> tokens_;
  std::string brackets_;  // closing ones that are waited for
  size_t at_ = 0;
  uint32_t line_ = 1;
  bool line_starting_ = true;
};

}  // namespace

Failure syntax_error(uint32_t line, std::string_view what) {
  return fail(ErrorCode::invalid_argument, "line {}: {}", line, what);
}

Result<std::vector<Token>> tokenize(std::string_view source) { return Lexer(normalized(source)).run(); }

}  // namespace thimble::jinja
