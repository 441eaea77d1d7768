// Python's "..." % values and "...".format(values).
#include <algorithm>
#include <cmath>

#include "text/jinja/builtins.h"
#include "text/jinja/format_spec.h"

namespace thimble::jinja {
namespace {

// ---- % ----

// What Python takes for a mapping here: no value of it has to be used.
bool is_mapping(const Value& value) {
  return value.is(Kind::dict) || value.is(Kind::list) || value.is(Kind::range) || value.is(Kind::undefined);
}

class Percent {
 public:
  Percent(Evaluator& evaluator, const Text& format, const Value& values)
      : evaluator_(evaluator), format_(format), bytes_(format.bytes), values_(values) {}

  Result<Value> run() {
    for (;;) {
      const size_t mark = std::min(bytes_.find('%', at_), bytes_.size());
      out_.append(format_, at_, mark);
      at_ = mark + 1;
      if (mark == bytes_.size()) break;
      CHECK_OK(conversion());
    }
    const bool all_used =
        values_.is(Kind::tuple) ? used_ >= values_.list().items.size() : used_ > 0 || by_name_ || is_mapping(values_);
    if (!all_used) return wrong("not all arguments converted during string formatting");
    return evaluator_.made(out_, format_.markup);
  }

 private:
  Result<Value> next() {
    if (!values_.is(Kind::tuple)) {
      if (used_++ > 0) return wrong("not enough arguments for format string");
      return values_;
    }
    if (used_ >= values_.list().items.size()) return wrong("not enough arguments for format string");
    return values_.list().items[used_++];
  }

  Result<int64_t> number() {
    if (at_ < bytes_.size() && bytes_[at_] == '*') {
      ++at_;
      return whole(TRY(next()), "* wants int");
    }
    int64_t number = 0;
    for (; at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9'; ++at_) {
      number = number * 10 + (bytes_[at_] - '0');
      if (number > 100'000) return wrong("a width of more than 100000");
    }
    return number;
  }

  Result<void> flags(FormatSpec& spec) {
    for (; at_ < bytes_.size(); ++at_) {
      switch (bytes_[at_]) {
        case '-':
          spec.align = '<';
          break;
        case '+':
          spec.sign = '+';
          break;
        case ' ':
          if (spec.sign != '+') spec.sign = ' ';
          break;
        case '#':
          spec.alternate = true;
          break;
        case '0':
          spec.zeros = true;
          break;
        default:
          return {};
      }
    }
    return {};
  }

  Result<Value> named() {
    const size_t open = at_++;
    int depth = 1;
    for (; at_ < bytes_.size() && depth > 0; ++at_) depth += bytes_[at_] == '(' ? 1 : bytes_[at_] == ')' ? -1 : 0;
    if (depth > 0) return wrong("incomplete format key");
    if (!values_.is(Kind::dict)) return wrong("format requires a mapping");
    by_name_ = true;
    const std::string_view key = bytes_.substr(open + 1, at_ - open - 2);
    const Value* found = values_.dict().find(key);
    if (!found) return wrong(fmt::format("KeyError: '{}'", key));
    return *found;
  }

  Result<void> conversion() {
    FormatSpec spec;
    Value value = Value::absent();
    if (at_ < bytes_.size() && bytes_[at_] == '(') value = TRY(named());
    CHECK_OK(flags(spec));
    spec.width = TRY(number());
    if (spec.width < 0) {
      spec.align = '<';
      spec.width = -spec.width;
    }
    if (at_ < bytes_.size() && bytes_[at_] == '.') {
      ++at_;
      spec.precision = std::max<int64_t>(TRY(number()), 0);
    }
    while (at_ < bytes_.size() && std::string_view("hlL").find(bytes_[at_]) != std::string_view::npos) ++at_;
    if (at_ >= bytes_.size()) return wrong("incomplete format");
    spec.type = bytes_[at_++];
    if (spec.type == '%') return out_.append("%"), Result<void>();
    if (!value.given()) value = TRY(next());
    return write(value, spec);
  }

  Result<void> write(const Value& value, FormatSpec spec) {
    const std::string_view texts = "sra", wholes = "diuoxX", reals = "eEfFgG";
    if (texts.find(spec.type) != std::string_view::npos) {
      TextBuilder text;
      if (spec.type != 's') {
        write_repr(value, text);
      } else if (format_.markup) {
        text.append(*escaped(value));
      } else {
        write_text(value, text);
      }
      spec.type = '\0';
      return text_of_spec(text.take(), spec);
    }
    if (spec.type == 'c') {
      TextBuilder one;
      if (value.is_whole()) {
        CHECK_OK(append_character(value.integer(), one));
      } else if (value.is(Kind::text) && value.text().length == 1) {
        one.append(value.text());
      } else {
        return wrong("%c requires int or char");
      }
      return text_of_spec(one.take(), spec);
    }
    const bool as_whole = wholes.find(spec.type) != std::string_view::npos;
    if (!as_whole && reals.find(spec.type) == std::string_view::npos)
      return wrong(fmt::format("unsupported format character '{}'", spec.type));
    if (!value.is_number())
      return wrong(fmt::format("%{} format: a real number is required, not {}", spec.type, type_name(value)));
    return number_of_spec(value, spec, as_whole);
  }

  Result<void> text_of_spec(const Text& text, FormatSpec spec) {
    spec.zeros = false;
    if (spec.precision >= 0 && static_cast<int64_t>(text.length) > spec.precision) {
      const TextPointer cut = slice_bytes(text, 0, text.byte_of(static_cast<size_t>(spec.precision)));
      return write_padded(evaluator_, *cut, 0, spec, '>', out_);
    }
    return write_padded(evaluator_, text, 0, spec, '>', out_);
  }

  Result<void> number_of_spec(const Value& value, FormatSpec spec, bool as_whole) {
    Value number = value;
    std::string digits;
    if (as_whole) {
      if (value.is(Kind::real)) {
        const bool bases = std::string_view("oxX").find(spec.type) != std::string_view::npos;
        if (bases || !std::isfinite(value.real()) || std::fabs(value.real()) > 9.2e18)
          return wrong(fmt::format("%{} format: an integer is required, not float", spec.type));
        number = Value(static_cast<int64_t>(value.real()));
      }
      if (spec.type == 'i' || spec.type == 'u') spec.type = 'd';
      const int64_t precision = std::exchange(spec.precision, -1);
      digits = TRY(digits_of(number, spec));
      if (precision > static_cast<int64_t>(digits.size()))
        digits.insert(0, static_cast<size_t>(precision) - digits.size(), '0');
    } else {
      digits = TRY(digits_of(number, spec));
    }
    const bool minus = number.is(Kind::real) ? std::signbit(number.real()) : number.integer() < 0;
    std::string sign = minus ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "";
    if (spec.alternate && std::string_view("oxX").find(spec.type) != std::string_view::npos)
      sign += std::string("0") + spec.type;
    if (spec.align == '<') spec.zeros = false;
    return write_padded(evaluator_, *make_text(sign + digits), sign.size(), spec, '>', out_);
  }

  Evaluator& evaluator_;
  const Text& format_;
  const std::string_view bytes_;
  const Value& values_;
  TextBuilder out_;
  size_t at_ = 0, used_ = 0;
  bool by_name_ = false;
};

// ---- str.format ----

class Brace {
 public:
  Brace(Evaluator& evaluator, const Text& format, const Arguments& values)
      : evaluator_(evaluator), format_(format), bytes_(format.bytes), values_(values) {}

  Result<void> write(size_t begin, size_t end, int depth, TextBuilder& to) {
    if (depth > 2) return wrong("Max string recursion exceeded");
    for (size_t at = begin; at < end;) {
      const size_t mark = std::min(bytes_.find_first_of("{}", at), end);
      to.append(format_, at, mark);
      at = mark;
      if (at >= end) break;
      const char brace = bytes_[at];
      if (at + 1 < end && bytes_[at + 1] == brace) {
        to.append(format_, at, at + 1);
        at += 2;
        continue;
      }
      if (brace == '}') return wrong("Single '}' encountered in format string");
      at = TRY(field(at + 1, end, depth, to));
    }
    return {};
  }

 private:
  // The field at `at`, after its brace; gives the place after it.
  Result<size_t> field(size_t at, size_t end, int depth, TextBuilder& to) {
    size_t close = at;
    for (int open = 1; close < end; ++close) {
      open += bytes_[close] == '{' ? 1 : bytes_[close] == '}' ? -1 : 0;
      if (open == 0) break;
    }
    if (close >= end) return wrong("expected '}' before end of string");
    size_t name_end = at;
    bool bracket = false;
    for (; name_end < close && (bracket || (bytes_[name_end] != ':' && bytes_[name_end] != '!')); ++name_end) {
      if (bytes_[name_end] == '[') bracket = true;
      if (bytes_[name_end] == ']') bracket = false;
    }
    Value value = TRY(value_of(bytes_.substr(at, name_end - at)));
    size_t spec_begin = name_end;
    if (spec_begin < close && bytes_[spec_begin] == '!') {
      const char kind = spec_begin + 1 < close ? bytes_[spec_begin + 1] : '\0';
      if (std::string_view("rsa").find(kind) == std::string_view::npos || kind == '\0')
        return wrong("Unknown conversion specifier in a format string");
      TextBuilder text;
      kind == 's' ? write_text(value, text) : write_repr(value, text);
      value = Value(text.finish());
      spec_begin += 2;
      if (spec_begin < close && bytes_[spec_begin] != ':') return wrong("expected ':' after conversion specifier");
    }
    TextBuilder spec;
    if (spec_begin < close) CHECK_OK(write(spec_begin + 1, close, depth + 1, spec));
    if (format_.markup && value.is(Kind::text) && spec.size() == 0) value = Value(escaped(value));
    CHECK_OK(write_formatted(evaluator_, value, TRY(parse_spec(spec.take())), to));
    return close + 1;
  }

  Result<Value> first_of(std::string_view name) {
    const bool digits =
        !name.empty() && name.size() < 9 && std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; });
    if (!digits && !name.empty()) {
      for (const auto& [key, value] : values_.named) {
        if (key == name) return value;
      }
      return wrong(fmt::format("KeyError: '{}'", name));
    }
    if (name.empty() ? numbered_ : next_ > 0)
      return wrong("cannot switch between manual field specification and automatic field numbering");
    numbered_ |= digits;
    const size_t place = name.empty() ? next_++ : static_cast<size_t>(std::atoi(std::string(name).c_str()));
    if (place >= values_.values.size()) return wrong("Replacement index out of range for positional args tuple");
    return values_.values[place];
  }

  Result<Value> value_of(std::string_view name) {
    size_t at = std::min(name.find_first_of(".["), name.size());
    Value value = TRY(first_of(name.substr(0, at)));
    while (at < name.size()) {
      if (name[at] == '.') {
        const size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        if (end == at + 1) return wrong("Empty attribute in format string");
        value = TRY(evaluator_.attribute(value, name.substr(at + 1, end - at - 1)));
        at = end;
        continue;
      }
      const size_t end = name.find(']', at);
      if (name[at] != '[' || end == std::string_view::npos || end == at + 1)
        return wrong("Missing ']' in format string");
      const std::string_view key = name.substr(at + 1, end - at - 1);
      const bool digits = key.size() < 9 && std::ranges::all_of(key, [](char c) { return c >= '0' && c <= '9'; });
      value = TRY(evaluator_.item(
          value, digits ? Value(static_cast<int64_t>(std::atoi(std::string(key).c_str()))) : Value::text(key)));
      at = end + 1;
    }
    return value;
  }

  Evaluator& evaluator_;
  const Text& format_;
  const std::string_view bytes_;
  const Arguments& values_;
  size_t next_ = 0;
  bool numbered_ = false;
};

}  // namespace

Result<Value> percent_format(Evaluator& evaluator, const Text& format, const Value& values) {
  return Percent(evaluator, format, values).run();
}

Result<Value> brace_format(Evaluator& evaluator, const Text& format, const Arguments& values) {
  TextBuilder out;
  CHECK_OK(Brace(evaluator, format, values).write(0, format.bytes.size(), 0, out));
  return evaluator.made(out, format.markup);
}

}  // namespace thimble::jinja
