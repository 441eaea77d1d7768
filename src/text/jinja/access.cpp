// Attributes, items, slices and what a value is made of.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/macro.h"

namespace thimble::jinja {
namespace {

// Over what does not change; knows its place alone.
struct Items final : Iterator {
  explicit Items(Value of) : of(std::move(of)) {}

  Result<bool> next(Evaluator& evaluator, Value& item) override {
    switch (of.kind()) {
      case Kind::text: {
        const Text& text = of.text();
        if (at >= text.bytes.size()) return false;
        const size_t length = decode_utf8(text.bytes, at).length;
        CHECK_OK(evaluator.charge(1));
        TextBuilder one;
        one.append(text, at, at + length);
        item = Value(one.finish());
        at += length;
        return true;
      }
      case Kind::dict:
        if (at >= of.dict().entries.size()) return false;
        item = of.dict().entries[at++].first;
        return true;
      case Kind::range:
        if (static_cast<int64_t>(at) >= of.range().size()) return false;
        item = Value(of.range().start + static_cast<int64_t>(at++) * of.range().step);
        return true;
      case Kind::undefined:
        return false;
      default:
        if (at >= of.list().items.size()) return false;
        item = of.list().items[at++];
        return true;
    }
  }

  const Value of;
  size_t at = 0;
};

Value no_attribute(const Value& of, std::string_view name) {
  return Value::undefined(fmt::format("'{} object' has no attribute '{}'", type_name(of), name));
}

Value attribute_of_tuple(const Value& of, std::string_view name) {
  const List& tuple = of.list();
  if (tuple.name == "group" && tuple.items.size() == 2) {
    if (name == "grouper") return tuple.items[0];
    if (name == "list") return tuple.items[1];
  }
  return Value::absent();
}

// What Python's getattr gives; absent where it raises AttributeError.
Result<Value> python_attribute(Evaluator& evaluator, const Value& of, std::string_view name) {
  const auto unsafe = [&] {
    return Value::undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(of)),
                            true);
  };
  if (of.is(Kind::names)) {
    for (const auto& [key, value] : of.names().attributes) {
      if (key.is(Kind::text) && key.bytes() == name) return value;
    }
    return name.starts_with("__") ? unsafe() : Value::absent();
  }
  if (name.starts_with("__") && name.ends_with("__")) return unsafe();
  if (changes(of.kind(), name)) return unsafe();
  if (of.is(Kind::loop)) return of.loop().attribute(evaluator, name, of);
  if (of.is(Kind::callable)) return of.callable().attribute(name);
  if (of.is(Kind::tuple)) {
    Value found = attribute_of_tuple(of, name);
    if (found.given() || name == "copy") return found;  // which lists alone have
  }
  if (const Builtin* method = find_method(of.kind(), name))
    return Value(Kind::callable, std::make_shared<BuiltinCallable>(*method, of));
  return Value::absent();
}

// The item at a place, or absent.
Value place_of(const Value& of, int64_t at) {
  const auto size = size_of(of);
  if (!size || of.is(Kind::dict) || of.is(Kind::view) || of.is(Kind::loop)) return Value::absent();
  if (at < 0) at += *size;
  if (at < 0 || at >= *size) return Value::absent();
  const auto place = static_cast<size_t>(at);
  if (of.is(Kind::range)) return Value(of.range().start + at * of.range().step);
  if (of.is_sequence()) return of.list().items[place];
  const Text& text = of.text();
  const size_t begin = text.byte_of(place);
  return Value(slice_bytes(text, begin, begin + decode_utf8(text.bytes, begin).length));
}

Result<Value> sliced_text(Evaluator& evaluator, const Text& text, const Positions& positions) {
  TextBuilder out;
  if (positions.step == 1) {
    const size_t begin = text.byte_of(static_cast<size_t>(positions.start));
    const size_t end = text.byte_of(static_cast<size_t>(positions.start + positions.count));
    if (positions.count > 0) out.append(text, begin, end);
    return evaluator.made(out, text.markup);
  }
  std::vector<size_t> starts;
  for (size_t at = 0; at < text.bytes.size(); at += decode_utf8(text.bytes, at).length) starts.push_back(at);
  starts.push_back(text.bytes.size());
  CHECK_OK(evaluator.charge(text.bytes.size() / 4));
  for (int64_t i = 0; i < positions.count; ++i) {
    const auto at = static_cast<size_t>(positions.start + i * positions.step);
    out.append(text, starts[at], starts[at + 1]);
  }
  return evaluator.made(out, text.markup);
}

}  // namespace

IteratorPointer items_of(Value from) { return std::make_shared<Items>(std::move(from)); }

std::optional<int64_t> size_of(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
      return 0;
    case Kind::text:
      return static_cast<int64_t>(value.text().length);
    case Kind::list:
    case Kind::tuple:
    case Kind::view:
      return static_cast<int64_t>(value.list().items.size());
    case Kind::dict:
      return static_cast<int64_t>(value.dict().entries.size());
    case Kind::range:
      return value.range().size();
    default:
      return std::nullopt;
  }
}

Result<Value> Evaluator::attribute(const Value& of, std::string_view name) {
  if (of.is(Kind::undefined)) return wrong(of.undefined().message);
  Value found = TRY(python_attribute(*this, of, name));
  if (found.given()) return found;
  if (of.is(Kind::dict)) {
    if (const Value* entry = of.dict().find(name)) return *entry;
  }
  return no_attribute(of, name);
}

Result<Value> Evaluator::item(const Value& of, const Value& key) {
  if (of.is(Kind::undefined)) return wrong(of.undefined().message);
  if (of.is(Kind::dict) && hashable(key)) {
    if (const Value* entry = of.dict().find(key)) return *entry;
  } else if (key.is_whole()) {
    CHECK_OK(charge(1 + (of.is(Kind::text) && !of.text().ascii() ? of.bytes().size() / 32 : 0)));
    Value found = place_of(of, key.integer());
    if (found.given()) return found;
  }
  if (key.is(Kind::text)) {
    Value found = TRY(python_attribute(*this, of, key.bytes()));
    return found.given() ? found : no_attribute(of, key.bytes());
  }
  TextBuilder shown;
  write_repr(key, shown);
  return Value::undefined(fmt::format("{} object has no element {}", type_name(of), shown.view()));
}

Result<Positions> slice_positions(const Value& start, const Value& stop, const Value& step, int64_t size) {
  for (const Value* one : {&start, &stop, &step}) {
    if (!one->is(Kind::none) && !one->is_whole()) return wrong("slice indices must be integers or None");
  }
  const int64_t by = step.is(Kind::none) ? 1 : step.integer();
  if (by == 0) return wrong("slice step cannot be zero");
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? size : size - 1;
  const auto place = [&](const Value& given, int64_t otherwise) {
    if (given.is(Kind::none)) return otherwise;
    const int64_t at = given.integer();
    return std::clamp(at < 0 ? (at < -size ? low : at + size) : at, low, high);
  };
  const int64_t from = place(start, by > 0 ? low : high), to = place(stop, by > 0 ? high : low);
  // |by| may be the smallest integer: divide rather than negate.
  int64_t count = 0;
  if (by > 0 && from < to) count = (to - from - 1) / by + 1;
  if (by < 0 && from > to) count = (to - from + 1) / by + 1;
  return Positions{from, by, count};
}

Result<Value> sliced(Evaluator& evaluator, const Value& of, const Value& start, const Value& stop, const Value& step) {
  if (of.is(Kind::undefined)) return wrong(of.undefined().message);
  const auto size = size_of(of);
  if (!size || !(of.is(Kind::text) || of.is_sequence() || of.is(Kind::range)))
    return wrong(fmt::format("'{}' object cannot be sliced", type_name(of)));
  const Positions positions = TRY(slice_positions(start, stop, step, *size));
  if (of.is(Kind::text)) return sliced_text(evaluator, of.text(), positions);
  if (of.is(Kind::range)) {
    const Range& range = of.range();
    auto made = std::make_shared<Range>();
    made->start = range.start + positions.start * range.step;
    made->step = positions.count > 1 ? range.step * positions.step : 1;
    made->stop = made->start + positions.count * made->step;
    return Value(Kind::range, std::move(made));
  }
  CHECK_OK(evaluator.charge(static_cast<uint64_t>(positions.count)));
  std::vector<Value> items;
  for (int64_t i = 0; i < positions.count; ++i)
    items.push_back(of.list().items[static_cast<size_t>(positions.start + i * positions.step)]);
  return make_list(std::move(items), of.kind());
}

}  // namespace thimble::jinja
