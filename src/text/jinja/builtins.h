// Filters, tests, methods and global functions: tables of named parameters and what is run with them.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "text/jinja/value.h"

namespace thimble::jinja {

struct Builtin {
  std::string_view name;
  std::array<std::string_view, 6> parameters;  // of a filter, a test or a method: what it is of comes first
  size_t required = 1;
  // With a value for every parameter; those not given are absent.
  Result<Value> (*run)(Evaluator& evaluator, std::span<Value> given) = nullptr;
  // Instead of `run` for what takes any arguments.
  Result<Value> (*run_any)(Evaluator& evaluator, Arguments& given) = nullptr;
};

const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
// A method of str, dict, list, tuple, int or float that leaves it as it is.
const Builtin* find_method(Kind kind, std::string_view name);
// That a list or a dictionary has a method of that name which would change it.
bool changes(Kind kind, std::string_view method);

Result<Value> call_builtin(const Builtin& builtin, Evaluator& evaluator, Arguments arguments);

// A global function, or a method with what it is of.
struct BuiltinCallable final : Callable {
  BuiltinCallable(const Builtin& builtin, Value self) : builtin(builtin), self(std::move(self)) {}
  Result<Value> call(Evaluator& evaluator, Arguments arguments) const override;
  Value attribute(std::string_view name) const override;

  const Builtin& builtin;
  Value self;  // absent for a function
};

std::span<const Builtin> global_functions();
std::span<const Builtin> text_methods();
std::span<const Builtin> container_methods();  // names begin with their kind: "dict.get"
std::span<const Builtin> list_filters();
std::span<const Builtin> text_filters();
std::span<const Builtin> number_filters();
std::span<const Builtin> tests();

// What many of them ask of their arguments; `what` names it in messages.
Result<int64_t> whole(const Value& value, std::string_view what);
Result<int64_t> whole_or(const Value& value, int64_t otherwise, std::string_view what);
Result<TextPointer> text_of(const Value& value, std::string_view what);

}  // namespace thimble::jinja
