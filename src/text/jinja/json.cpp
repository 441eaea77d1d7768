#include "text/jinja/json.h"

#include <cmath>

#include "text/jinja/builtins.h"
#include "text/jinja/getter.h"

namespace thimble::jinja {
namespace {

std::string json_number(const Value& value) {
  if (value.is(Kind::integer)) return fmt::format("{}", value.integer());
  const double number = value.real();
  if (std::isnan(number)) return "NaN";
  if (std::isinf(number)) return number < 0 ? "-Infinity" : "Infinity";
  return float_text(number);
}

std::string_view json_word(const Value& value) {
  return value.is(Kind::none) ? "null" : value.integer() ? "true" : "false";
}

class Writer {
 public:
  Writer(Evaluator& evaluator, const JsonStyle& style, TextBuilder& to)
      : evaluator_(evaluator), style_(style), to_(to) {}

  Result<void> write(const Value& value) {
    CHECK_OK(evaluator_.charge(1));
    switch (value.kind()) {
      case Kind::none:
      case Kind::boolean:
        to_.append(json_word(value));
        return {};
      case Kind::integer:
      case Kind::real:
        to_.append(json_number(value));
        return {};
      case Kind::text:
        string(value.text());
        return {};
      case Kind::list:
      case Kind::tuple:
        return list(value.list().items);
      case Kind::dict:
        return dict(value.dict().entries);
      default:
        return wrong(fmt::format("Object of type {} is not JSON serializable", type_name(value)));
    }
  }

 private:
  void line() {
    if (!style_.indent) return;
    to_.append("\n");
    for (int i = 0; i < depth_; ++i) to_.append(*style_.indent);
  }

  Result<void> list(std::span<const Value> items) {
    if (items.empty()) return to_.append("[]"), Result<void>();
    to_.append("[");
    ++depth_;
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) to_.append(style_.item_separator);
      line();
      CHECK_OK(write(items[i]));
    }
    --depth_;
    line();
    to_.append("]");
    return {};
  }

  Result<void> key(const Value& key) {
    switch (key.kind()) {
      case Kind::text:
        string(key.text());
        return {};
      case Kind::none:
      case Kind::boolean:
        to_.append(fmt::format("\"{}\"", json_word(key)));
        return {};
      case Kind::integer:
      case Kind::real:
        to_.append(fmt::format("\"{}\"", json_number(key)));
        return {};
      default:
        return wrong(fmt::format("keys must be str, int, float, bool or None, not {}", type_name(key)));
    }
  }

  Result<void> dict(std::span<const Dict::Entry> entries) {
    if (entries.empty()) return to_.append("{}"), Result<void>();
    std::vector<Keyed> order;
    for (const auto& [key, value] : entries) order.push_back({key, value});
    if (style_.sorted) CHECK_OK(sort_keyed(evaluator_, order, false));
    to_.append("{");
    ++depth_;
    for (size_t i = 0; i < order.size(); ++i) {
      if (i > 0) to_.append(style_.item_separator);
      line();
      CHECK_OK(key(order[i].key));
      to_.append(style_.key_separator);
      CHECK_OK(write(order[i].item));
    }
    --depth_;
    line();
    to_.append("}");
    return {};
  }

  std::string escape(uint32_t code) const {
    switch (code) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\f':
        return "\\f";
      case '\b':
        return "\\b";
      default:
        break;
    }
    if (code >= 0x20 && (code < 0x7f || !style_.ascii)) return {};
    if (code < 0x10000) return fmt::format("\\u{:04x}", code);
    const uint32_t rest = code - 0x10000;
    return fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + (rest >> 10), 0xdc00 + (rest & 0x3ff));
  }

  void string(const Text& text) {
    to_.append("\"");
    size_t at = 0, plain = 0;
    for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t length, bool foreign) {
      if (const std::string other = escape(code); !other.empty()) {
        to_.append(text, plain, at);
        to_.append(other, foreign);
        plain = at + length;
      }
      at += length;
    });
    to_.append(text, plain, at);
    to_.append("\"");
  }

  Evaluator& evaluator_;
  const JsonStyle& style_;
  TextBuilder& to_;
  int depth_ = 0;
};

}  // namespace

Result<void> JsonStyle::set_indent(const Value& value) {
  if (!value.given() || value.is(Kind::none)) return {};
  if (value.is(Kind::text)) {
    indent = value.text().bytes;
  } else {
    const int64_t count = TRY(whole(value, "indent"));
    if (count > 1000) return wrong("an indentation of more than 1000 blanks");
    indent = std::string(static_cast<size_t>(std::max<int64_t>(count, 0)), ' ');
  }
  return {};
}

Result<void> JsonStyle::set_separators(Evaluator& evaluator, const Value& value) {
  if (indent) item_separator = ",";
  if (!value.given() || value.is(Kind::none)) return {};
  const std::vector<Value> two = TRY(evaluator.collect(value));
  if (two.size() != 2) return wrong("separators should be two");
  item_separator = TRY(text_of(two[0], "a separator"))->bytes;
  key_separator = TRY(text_of(two[1], "a separator"))->bytes;
  return {};
}

Result<Value> to_json(Evaluator& evaluator, const Value& value, const JsonStyle& style) {
  TextBuilder text;
  CHECK_OK(Writer(evaluator, style, text).write(value));
  return evaluator.made(text);
}

}  // namespace thimble::jinja
