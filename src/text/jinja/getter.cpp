#include "text/jinja/getter.h"

#include <algorithm>
#include <charconv>

#include "text/jinja/builtins.h"

namespace thimble::jinja {
namespace {

Value part_of(std::string_view text) {
  int64_t place = 0;
  const bool digits = !text.empty() && std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
  if (digits && std::from_chars(text.data(), text.data() + text.size(), place).ec == std::errc()) return Value(place);
  return Value::text(text);
}

}  // namespace

Result<Getter> Getter::of(const Value& attribute, const Value& otherwise) {
  Getter made;
  if (!otherwise.is(Kind::none)) made.otherwise_ = otherwise;
  if (!attribute.given() || attribute.is(Kind::none)) return made;
  if (!attribute.is(Kind::text)) {
    made.parts_.push_back(attribute);
    return made;
  }
  std::string_view rest = attribute.bytes();
  for (;;) {
    const size_t dot = rest.find('.');
    made.parts_.push_back(part_of(rest.substr(0, dot)));
    if (dot == std::string_view::npos) return made;
    rest.remove_prefix(dot + 1);
  }
}

Result<Value> Getter::get(Evaluator& evaluator, Value item) const {
  for (const Value& part : parts_) {
    item = TRY(evaluator.item(item, part));
    if (otherwise_.given() && item.is(Kind::undefined)) item = otherwise_;
  }
  return item;
}

Result<std::vector<Getter>> getters(const Value& attribute) {
  std::vector<Getter> all;
  if (!attribute.is(Kind::text)) {
    all.push_back(TRY(Getter::of(attribute)));
    return all;
  }
  std::string_view rest = attribute.bytes();
  for (;;) {
    const size_t comma = rest.find(',');
    all.push_back(TRY(Getter::of(Value::text(rest.substr(0, comma)))));
    if (comma == std::string_view::npos) return all;
    rest.remove_prefix(comma + 1);
  }
}

Result<Value> without_case(Evaluator& evaluator, const Value& value) {
  if (!value.is(Kind::text)) return value;
  return call_builtin(*find_method(Kind::text, "lower"), evaluator, {{value}, {}});
}

Result<void> sort_keyed(Evaluator& evaluator, std::vector<Keyed>& keyed, bool reverse) {
  uint64_t steps = keyed.size();
  for (size_t n = keyed.size(); n > 1; n /= 2) steps += keyed.size();
  CHECK_OK(evaluator.charge(steps));
  // Keys that have no order are found before the sort, which may not fail: next to each other in any order.
  Result<void> failed;
  const auto before = [&](const Keyed& a, const Keyed& b) {
    if (!failed) return false;
    const auto order = reverse ? less(b.key, a.key) : less(a.key, b.key);
    if (!order) failed = Failure(order.error());
    return order && *order;
  };
  std::stable_sort(keyed.begin(), keyed.end(), before);
  return failed;
}

}  // namespace thimble::jinja
