// Global functions, methods of dictionaries and lists, and the loop's own.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/macro.h"

namespace thimble::jinja {
namespace {

using Given = std::span<Value>;

constexpr int64_t kLongestRange = 100'000;  // jinja2's sandbox

Result<Value> range(Evaluator&, Arguments& given) {
  if (!given.named.empty() || given.values.empty() || given.values.size() > 3)
    return wrong("range() takes one to three integers");
  std::vector<int64_t> numbers;
  for (const Value& value : given.values) numbers.push_back(TRY(whole(value, "range()'s argument")));
  auto made = std::make_shared<Range>();
  if (numbers.size() == 1) numbers.insert(numbers.begin(), 0);
  made->start = numbers[0];
  made->stop = numbers[1];
  made->step = numbers.size() > 2 ? numbers[2] : 1;
  if (made->step == 0) return wrong("range() arg 3 must not be zero");
  constexpr int64_t kFar = int64_t{1} << 60;
  if (std::ranges::any_of(numbers, [](int64_t n) { return n > kFar || n < -kFar; }) || made->size() > kLongestRange)
    return wrong("Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).");
  return Value(Kind::range, std::move(made));
}

// Entries of a mapping or of pairs, then the named ones.
Result<std::vector<Dict::Entry>> entries_of(Evaluator& evaluator, Arguments& given, std::string_view function) {
  std::vector<Dict::Entry> entries;
  if (given.values.size() > 1) return wrong(fmt::format("{}() takes one mapping at most", function));
  if (!given.values.empty() && given.values[0].is(Kind::dict)) {
    entries = given.values[0].dict().entries;
  } else if (!given.values.empty()) {
    if (given.values[0].is(Kind::names)) return wrong(fmt::format("'Namespace' object is not iterable"));
    for (const Value& pair : TRY(evaluator.collect(given.values[0]))) {
      const std::vector<Value> two = TRY(evaluator.collect(pair));
      if (two.size() != 2) return wrong("dictionary update sequence element has not the length 2");
      entries.emplace_back(two[0], two[1]);
    }
  }
  for (auto& [name, value] : given.named) entries.emplace_back(Value::text(name), std::move(value));
  CHECK_OK(evaluator.charge(entries.size()));
  return entries;
}

Result<Value> dict(Evaluator& evaluator, Arguments& given) {
  return make_dict(TRY(entries_of(evaluator, given, "dict")));
}

Result<Value> names(Evaluator& evaluator, Arguments& given) {
  const Value merged = TRY(make_dict(TRY(entries_of(evaluator, given, "namespace"))));
  for (const auto& entry : merged.dict().entries) {
    if (entry.first.is(Kind::text) && entry.first.bytes().starts_with('_'))
      return wrong("a namespace has no attribute that begins with an underscore");
  }
  return evaluator.new_names(merged.dict().entries);
}

Result<Value> raise_exception(Evaluator& evaluator, Given given) { return evaluator.raise(to_text(given[0])->bytes); }

Result<Value> strftime_now(Evaluator& evaluator, Given given) {
  const TextPointer asked = TRY(text_of(given[0], "strftime_now's format"));
  if (asked->bytes.size() > 1000) return wrong("strftime_now's format is longer than 1000 bytes");
  // No time zone is known, as of Python's datetime.now(); %f are microseconds.
  std::string format;
  for (size_t i = 0; i < asked->bytes.size(); ++i) {
    const std::string_view two = std::string_view(asked->bytes).substr(i, 2);
    if (two == "%f") format += "000000";
    if (two != "%z" && two != "%Z" && two != "%f") format += two == "%%" ? "%%" : two.substr(0, 1);
    if (two == "%z" || two == "%Z" || two == "%f" || two == "%%") ++i;
  }
  std::string text(16 * format.size() + 256, '\0');
  text.resize(std::strftime(text.data(), text.size(), format.c_str(), &evaluator.date()));
  TextBuilder out;
  out.append(text);
  return evaluator.made(out);
}

Result<Value> lipsum(Evaluator&, Arguments&) {
  return wrong("lipsum() is not supported: what a template writes has to be the same each time");
}

struct CyclerState {
  std::vector<Value> items;
  size_t at = 0;
};

struct CyclerMethod final : Callable {
  CyclerMethod(std::shared_ptr<CyclerState> state, bool moves) : state(std::move(state)), moves(moves) {}
  Result<Value> call(Evaluator&, Arguments given) const override {
    if (!given.values.empty() || !given.named.empty()) return wrong("a cycler's method takes no arguments");
    const Value current = moves ? state->items[state->at] : Value();
    state->at = moves ? (state->at + 1) % state->items.size() : 0;
    return current;
  }
  std::shared_ptr<CyclerState> state;
  bool moves;
};

struct Cycler final : Callable {
  explicit Cycler(std::vector<Value> items) : state(std::make_shared<CyclerState>(CyclerState{std::move(items)})) {}
  Result<Value> call(Evaluator&, Arguments) const override { return wrong("'Cycler' object is not callable"); }
  Value attribute(std::string_view name) const override {
    if (name == "current") return state->items[state->at];
    if (name != "next" && name != "reset") return Value::absent();
    return Value(Kind::callable, std::make_shared<CyclerMethod>(state, name == "next"));
  }
  std::shared_ptr<CyclerState> state;
};

struct Joiner final : Callable {
  TextPointer separator;
  mutable bool used = false;
  Result<Value> call(Evaluator&, Arguments given) const override {
    if (!given.values.empty() || !given.named.empty()) return wrong("a joiner takes no arguments");
    return std::exchange(used, true) ? Value(separator) : Value::text("");
  }
};

Result<Value> cycler(Evaluator&, Arguments& given) {
  if (given.values.empty() || !given.named.empty()) return wrong("at least one item has to be provided");
  return Value(Kind::callable, std::make_shared<Cycler>(std::move(given.values)));
}

Result<Value> joiner(Evaluator&, Given given) {
  auto made = std::make_shared<Joiner>();
  made->separator = given[0].given() ? to_text(given[0]) : make_text(", ");
  return Value(Kind::callable, std::move(made));
}

// ---- methods ----

Result<Value> dict_get(Evaluator&, Given given) {
  if (!hashable(given[1])) return wrong(fmt::format("unhashable type: '{}'", type_name(given[1])));
  const Value* found = given[0].dict().find(given[1]);
  return found ? *found : given[2].given() ? given[2] : Value();
}

enum class Part { keys, values, items };

template <Part part>
Result<Value> view(Evaluator& evaluator, Given given) {
  CHECK_OK(evaluator.charge(given[0].dict().entries.size()));
  std::vector<Value> all;
  for (const auto& [key, value] : given[0].dict().entries) {
    all.push_back(part == Part::keys ? key : part == Part::values ? value : TRY(make_list({key, value}, Kind::tuple)));
  }
  return make_list(std::move(all), Kind::view,
                   part == Part::keys     ? "dict_keys"
                   : part == Part::values ? "dict_values"
                                          : "dict_items");
}

Result<Value> itself(Evaluator&, Given given) { return given[0]; }

Result<Value> from_keys(Evaluator& evaluator, Given given) {
  std::vector<Dict::Entry> entries;
  for (Value& key : TRY(evaluator.collect(given[0])))
    entries.emplace_back(std::move(key), given[1].given() ? given[1] : Value());
  return make_dict(std::move(entries));
}

Result<Value> list_count(Evaluator& evaluator, Given given) {
  int64_t count = 0;
  for (const Value& item : TRY(evaluator.collect(given[0]))) count += equal(item, given[1]);
  return Value(count);
}

Result<Value> list_index(Evaluator& evaluator, Given given) {
  const std::vector<Value> all = TRY(evaluator.collect(given[0]));
  const auto none = [](const Value& value) { return value.given() ? value : Value(); };
  const Positions part =
      TRY(slice_positions(none(given[2]), none(given[3]), Value(), static_cast<int64_t>(all.size())));
  for (int64_t i = part.start; i < part.start + part.count; ++i) {
    if (equal(all[static_cast<size_t>(i)], given[1])) return Value(i);
  }
  return wrong("the list does not hold that value");
}

Result<Value> is_integer(Evaluator&, Given given) {
  return Value(given[0].real() == static_cast<double>(static_cast<int64_t>(given[0].real())));
}

Result<Value> cycle(Evaluator&, Arguments& given) {
  const Loop& loop = given.values[0].loop();
  const auto count = static_cast<int64_t>(given.values.size()) - 1;
  if (count == 0) return wrong("no items for cycling given");
  return given.values[static_cast<size_t>(1 + loop.index0 % count)];
}

Result<Value> changed(Evaluator&, Arguments& given) {
  Loop& loop = given.values[0].loop();
  given.values.erase(given.values.begin());
  Value now = TRY(make_list(std::move(given.values), Kind::tuple));
  const bool other = !loop.last_changed.given() || !equal(loop.last_changed, now);
  loop.last_changed = std::move(now);
  return Value(other);
}

constexpr auto kGlobals = std::to_array<Builtin>({
    {"cycler", {}, 0, nullptr, cycler},
    {"dict", {}, 0, nullptr, dict},
    {"joiner", {"sep"}, 0, joiner},
    {"lipsum", {}, 0, nullptr, lipsum},
    {"namespace", {}, 0, nullptr, names},
    {"raise_exception", {"message"}, 1, raise_exception},
    {"range", {}, 0, nullptr, range},
    {"strftime_now", {"format"}, 1, strftime_now},
});

constexpr auto kMethods = std::to_array<Builtin>({
    {"dict.copy", {"self"}, 1, itself},
    {"dict.fromkeys", {"iterable", "value"}, 1, from_keys},
    {"dict.get", {"self", "key", "default"}, 2, dict_get},
    {"dict.items", {"self"}, 1, view<Part::items>},
    {"dict.keys", {"self"}, 1, view<Part::keys>},
    {"dict.values", {"self"}, 1, view<Part::values>},
    {"float.is_integer", {"self"}, 1, is_integer},
    {"fromkeys", {"iterable", "value"}, 1, from_keys},
    {"list.copy", {"self"}, 1, itself},
    {"list.count", {"self", "value"}, 2, list_count},
    {"list.index", {"self", "value", "start", "stop"}, 2, list_index},
});

constexpr Builtin kCycle{"cycle", {}, 0, nullptr, cycle};
constexpr Builtin kChanged{"changed", {}, 0, nullptr, changed};

}  // namespace

Value loop_method(std::string_view name, const Value& loop) {
  return Value(Kind::callable, std::make_shared<BuiltinCallable>(name == "cycle" ? kCycle : kChanged, loop));
}

std::span<const Builtin> global_functions() { return kGlobals; }
std::span<const Builtin> container_methods() { return kMethods; }

}  // namespace thimble::jinja
