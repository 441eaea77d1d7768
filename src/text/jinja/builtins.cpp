#include "text/jinja/builtins.h"

#include <algorithm>

#include "text/jinja/evaluator.h"

namespace thimble::jinja {
namespace {

const Builtin* find(std::span<const Builtin> table, std::string_view name) {
  const auto at = std::ranges::find(table, name, &Builtin::name);
  return at == table.end() ? nullptr : &*at;
}

}  // namespace

const Builtin* find_filter(std::string_view name) {
  for (const auto table : {list_filters(), text_filters(), number_filters()}) {
    if (const Builtin* found = find(table, name)) return found;
  }
  return nullptr;
}

const Builtin* find_test(std::string_view name) { return find(tests(), name); }

const Builtin* find_method(Kind kind, std::string_view name) {
  if (kind == Kind::text) return find(text_methods(), name);
  std::string_view prefix;
  if (kind == Kind::dict) prefix = "dict";
  if (kind == Kind::list || kind == Kind::tuple || kind == Kind::range) prefix = "list";
  if (kind == Kind::real) prefix = "float";
  if (prefix.empty()) return nullptr;
  return find(container_methods(), fmt::format("{}.{}", prefix, name));
}

bool changes(Kind kind, std::string_view method) {
  constexpr auto kList =
      std::to_array<std::string_view>({"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"});
  constexpr auto kDict = std::to_array<std::string_view>({"clear", "pop", "popitem", "setdefault", "update"});
  if (kind == Kind::list) return std::ranges::find(kList, method) != kList.end();
  return kind == Kind::dict && std::ranges::find(kDict, method) != kDict.end();
}

Result<Value> call_builtin(const Builtin& builtin, Evaluator& evaluator, Arguments arguments) {
  CHECK_OK(evaluator.charge(1));
  if (builtin.run_any) return builtin.run_any(evaluator, arguments);
  std::array<Value, 6> given;
  given.fill(Value::absent());
  const auto& parameters = builtin.parameters;
  const auto count = static_cast<size_t>(std::ranges::find(parameters, "") - parameters.begin());
  if (arguments.values.size() > count)
    return wrong(fmt::format("{}() takes {} arguments, {} were given", builtin.name, count, arguments.values.size()));
  std::ranges::move(arguments.values, given.begin());
  for (auto& [name, value] : arguments.named) {
    const auto at = std::ranges::find(parameters, name);
    if (name.empty() || at == parameters.end())
      return wrong(fmt::format("{}() got an unexpected keyword argument '{}'", builtin.name, name));
    Value& place = given[static_cast<size_t>(at - parameters.begin())];
    if (place.given()) return wrong(fmt::format("{}() got multiple values for argument '{}'", builtin.name, name));
    place = std::move(value);
  }
  for (size_t i = 0; i < builtin.required; ++i) {
    if (!given[i].given()) return wrong(fmt::format("{}() is missing the argument '{}'", builtin.name, parameters[i]));
  }
  return builtin.run(evaluator, std::span(given).first(count));
}

Result<Value> BuiltinCallable::call(Evaluator& evaluator, Arguments arguments) const {
  if (self.given()) arguments.values.insert(arguments.values.begin(), self);
  return call_builtin(builtin, evaluator, std::move(arguments));
}

Value BuiltinCallable::attribute(std::string_view name) const {
  if (builtin.name == "dict" && name == "fromkeys" && !self.given()) {
    return Value(Kind::callable,
                 std::make_shared<BuiltinCallable>(*find(container_methods(), "fromkeys"), Value::absent()));
  }
  return Value::absent();
}

Result<int64_t> whole(const Value& value, std::string_view what) {
  if (value.is_whole()) return value.integer();
  if (value.is(Kind::undefined)) return wrong(value.undefined().message);
  return wrong(fmt::format("{} should be an integer, not '{}'", what, type_name(value)));
}

Result<int64_t> whole_or(const Value& value, int64_t otherwise, std::string_view what) {
  return value.given() ? whole(value, what) : Result<int64_t>(otherwise);
}

Result<TextPointer> text_of(const Value& value, std::string_view what) {
  if (value.is(Kind::text)) return to_text(value);
  if (value.is(Kind::undefined)) return wrong(value.undefined().message);
  return wrong(fmt::format("{} should be a string, not '{}'", what, type_name(value)));
}

}  // namespace thimble::jinja
