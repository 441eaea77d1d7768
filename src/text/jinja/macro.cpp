#include "text/jinja/macro.h"

#include <algorithm>

namespace thimble::jinja {

// Python's binding: places first, then names, then defaults; what is left goes to varargs, kwargs and caller, if the
// body has them.
Result<void> Macro::bind(Evaluator& evaluator, Arguments& arguments) const {
  const auto take = [&](std::string_view name) {
    const auto at =
        std::ranges::find(arguments.named, name, [](const auto& one) { return std::string_view(one.first); });
    if (at == arguments.named.end()) return Value::absent();
    Value value = std::move(at->second);
    arguments.named.erase(at);
    return value;
  };
  bool has_caller = false;
  for (size_t i = 0; i < function.parameters.size(); ++i) {
    const auto& [id, otherwise] = function.parameters[i];
    has_caller |= tree.names[id] == "caller";
    Value value = i < arguments.values.size() ? arguments.values[i] : take(tree.names[id]);
    if (!value.given() && otherwise != 0) value = TRY(evaluator.evaluate(otherwise));
    if (!value.given()) value = Value::undefined(fmt::format("parameter '{}' was not provided", tree.names[id]));
    evaluator.frame_->set(id, std::move(value));
  }
  const auto set = [&](std::string_view name, Value value) {
    const auto id = std::ranges::find(tree.names, name) - tree.names.begin();
    evaluator.frame_->set(static_cast<NameId>(id), std::move(value));
  };
  if (function.takes_caller && !has_caller) {
    Value caller = take("caller");
    if (!caller.given() || caller.is(Kind::none)) caller = Value::undefined("No caller defined");
    set("caller", std::move(caller));
  }
  const std::string& name = tree.names[function.name];
  if (function.takes_named) {
    std::vector<Dict::Entry> entries;
    for (auto& [key, value] : arguments.named) entries.emplace_back(Value::text(key), std::move(value));
    set("kwargs", TRY(make_dict(std::move(entries))));
  } else if (!arguments.named.empty()) {
    return wrong(fmt::format("macro '{}' takes no keyword argument '{}'", name, arguments.named[0].first));
  }
  const size_t places = function.parameters.size();
  if (function.takes_values) {
    std::vector<Value> rest;
    if (arguments.values.size() > places)
      rest.assign(arguments.values.begin() + static_cast<std::ptrdiff_t>(places), arguments.values.end());
    set("varargs", TRY(make_list(std::move(rest), Kind::tuple)));
  } else if (arguments.values.size() > places) {
    return wrong(fmt::format("macro '{}' takes not more than {} argument(s)", name, places));
  }
  return {};
}

Result<Value> Macro::call(Evaluator& evaluator, Arguments arguments) const {
  TextBuilder buffer;
  TextBuilder* const out = std::exchange(evaluator.out_, &buffer);
  Frame* const outside = std::exchange(evaluator.frame_, evaluator.new_frame(frame));
  auto done = bind(evaluator, arguments);
  if (done) {
    if (const auto flow = evaluator.execute(function.body); !flow) done = Failure(flow.error());
  }
  evaluator.release(std::exchange(evaluator.frame_, outside));
  evaluator.out_ = out;
  CHECK_OK(done);
  return evaluator.made(buffer);
}

Value Macro::attribute(std::string_view name) const {
  if (name == "name") return Value::text(tree.names[function.name]);
  if (name == "caller") return Value(function.takes_caller);
  if (name == "catch_kwargs") return Value(function.takes_named);
  if (name == "catch_varargs") return Value(function.takes_values);
  if (name == "arguments") {
    std::vector<Value> names;
    for (const auto& parameter : function.parameters) names.push_back(Value::text(tree.names[parameter.first]));
    return *make_list(std::move(names), Kind::tuple);
  }
  return Value::absent();
}

Result<Value> Blocks::call(Evaluator&, Arguments) const { return wrong("'TemplateReference' object is not callable"); }

Value Blocks::attribute(std::string_view name) const {
  const auto named = [&](const Function& block) { return tree.names[block.name] == name; };
  const auto found = std::ranges::find_if(tree.blocks, named);
  if (found == tree.blocks.end()) return Value::absent();
  return Value(Kind::callable, std::make_shared<Macro>(tree, *found, frame));
}

// ---- the variable loop ----

Loop& Value::loop() const { return change<Loop>(); }

Result<bool> Loop::peek(Evaluator& evaluator) {
  if (!ahead.empty()) return true;
  Value item;
  if (!TRY(items->next(evaluator, item))) return false;
  ahead.push_back(std::move(item));
  return true;
}

Result<bool> Loop::next(Evaluator& evaluator, Value& item) {
  if (!TRY(peek(evaluator))) return false;
  item = std::move(ahead.back());
  ahead.clear();
  ++index0;
  before = std::exchange(current, item);
  return true;
}

Result<int64_t> Loop::size(Evaluator& evaluator) {
  if (length) return *length;
  std::vector<Value> rest;
  for (Value item; TRY(items->next(evaluator, item));) rest.push_back(item);
  length = static_cast<int64_t>(rest.size() + ahead.size()) + index0 + 1;
  items = items_of(TRY(make_list(std::move(rest))));
  return *length;
}

Result<Value> Loop::attribute(Evaluator& evaluator, std::string_view name, const Value& self) {
  if (name == "index0") return Value(index0);
  if (name == "index") return Value(index0 + 1);
  if (name == "first") return Value(index0 == 0);
  if (name == "last") return Value(!TRY(peek(evaluator)));
  if (name == "length") return Value(TRY(size(evaluator)));
  if (name == "revindex") return Value(TRY(size(evaluator)) - index0);
  if (name == "revindex0") return Value(TRY(size(evaluator)) - index0 - 1);
  if (name == "depth") return Value(depth0 + 1);
  if (name == "depth0") return Value(depth0);
  if (name == "previtem") return index0 == 0 ? Value::undefined("there is no previous item") : before;
  if (name == "nextitem") return TRY(peek(evaluator)) ? ahead.back() : Value::undefined("there is no next item");
  if (name == "cycle" || name == "changed") return loop_method(name, self);
  return Value::undefined(fmt::format("'LoopContext' has no attribute '{}'", name));
}

}  // namespace thimble::jinja
