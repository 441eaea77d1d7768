// The evaluator's expressions.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/macro.h"

namespace thimble::jinja {
Result<Value> Evaluator::evaluate(NodeId id) {
  const Deeper deeper(depth_);
  if (too_deep()) return wrong("maximum recursion depth exceeded");
  if (steps_left_ == 0) return Failure(charge(1).error());
  --steps_left_;
  const Node& one = node(id);
  switch (one.kind) {
    case NodeKind::constant:
      return tree_.constants[one.index];
    case NodeKind::variable:
      return variable(one);
    case NodeKind::tuple:
      return make_list(TRY(children(one)), Kind::tuple);
    case NodeKind::list:
      return make_list(TRY(children(one)));
    case NodeKind::dict:
      return dict(one);
    case NodeKind::attribute:
      return attribute(TRY(evaluate(one.a)), tree_.names[one.name]);
    case NodeKind::item: {
      const Value of = TRY(evaluate(one.a));
      return node(one.b).kind == NodeKind::slice ? slice(of, node(one.b)) : item(of, TRY(evaluate(one.b)));
    }
    case NodeKind::call:
      return call_node(one, nullptr);
    case NodeKind::filter:
      return filter_node(one);
    case NodeKind::test:
      return test_node(one);
    case NodeKind::unary: {
      const Value of = TRY(evaluate(one.a));
      return one.what == What::negation ? Value(!truth(of)) : negative(of, one.what == What::negative);
    }
    case NodeKind::binary: {
      const Value left = TRY(evaluate(one.a));
      return binary(*this, one.what, left, TRY(evaluate(one.b)));
    }
    case NodeKind::concat:
      return concat(one);
    case NodeKind::compare:
      return compare(one);
    case NodeKind::both:
    case NodeKind::either:
    case NodeKind::conditional:
      return short_circuit(one);
    default:
      return wrong("a slice stands where a value should");
  }
}

Result<Value> Evaluator::variable(const Node& node) {
  for (const Frame* frame = frame_; frame; frame = frame->parent) {
    if (const Value* found = frame->find(node.name)) return *found;
  }
  if (globals_[node.name].given()) return globals_[node.name];
  return Value::undefined(fmt::format("'{}' is undefined", tree_.names[node.name]));
}

Result<std::vector<Value>> Evaluator::children(const Node& node) {
  std::vector<Value> values;
  values.reserve(node.count);
  for (uint32_t i = 0; i < node.count; ++i) values.push_back(TRY(evaluate(child(node, i))));
  return values;
}

Result<Value> Evaluator::dict(const Node& node) {
  std::vector<Dict::Entry> entries;
  for (uint32_t i = 0; i < node.count; i += 2) {
    Value key = TRY(evaluate(child(node, i)));
    entries.emplace_back(std::move(key), TRY(evaluate(child(node, i + 1))));
  }
  return make_dict(std::move(entries));
}

Result<Value> Evaluator::slice(const Value& of, const Node& node) {
  const Value start = node.a ? TRY(evaluate(node.a)) : Value();
  const Value stop = node.b ? TRY(evaluate(node.b)) : Value();
  const Value step = node.c ? TRY(evaluate(node.c)) : Value();
  return sliced(*this, of, start, stop, step);
}

Result<Value> Evaluator::concat(const Node& node) {
  TextBuilder text;
  for (uint32_t i = 0; i < node.count; ++i) write_text(TRY(evaluate(child(node, i))), text);
  return made(text);
}

Result<Value> Evaluator::compare(const Node& one) {
  Value left = TRY(evaluate(one.a));
  for (uint32_t i = 0; i < one.count; ++i) {
    const Node& operand = node(child(one, i));
    Value right = TRY(evaluate(operand.a));
    if (!TRY(compare_values(*this, operand.what, left, right))) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

Result<Value> Evaluator::short_circuit(const Node& node) {
  Value first = TRY(evaluate(node.a));
  if (node.kind == NodeKind::both) return truth(first) ? evaluate(node.b) : Result<Value>(first);
  if (node.kind == NodeKind::either) return truth(first) ? Result<Value>(first) : evaluate(node.b);
  if (truth(first)) return evaluate(node.b);
  if (node.c != 0) return evaluate(node.c);
  return Value::undefined("the inline if-expression evaluated to false and no else section was defined.");
}

Result<Arguments> Evaluator::arguments(uint32_t site) {
  const CallSite& call = tree_.calls[site];
  Arguments made;
  for (NodeId value : call.values) made.values.push_back(TRY(evaluate(value)));
  for (const auto& [name, value] : call.named) {
    if (std::ranges::find(made.named, tree_.names[name], &std::pair<std::string, Value>::first) != made.named.end())
      return wrong(fmt::format("keyword argument repeated: {}", tree_.names[name]));
    made.named.emplace_back(tree_.names[name], TRY(evaluate(value)));
  }
  if (call.all_values) {
    for (Value& value : TRY(collect(TRY(evaluate(call.all_values))))) made.values.push_back(std::move(value));
  }
  if (call.all_named) {
    const Value all = TRY(evaluate(call.all_named));
    if (!all.is(Kind::dict)) return wrong(fmt::format("argument after ** must be a mapping, not {}", type_name(all)));
    for (const auto& [key, value] : all.dict().entries) {
      if (!key.is(Kind::text)) return wrong("keywords must be strings");
      made.named.emplace_back(key.text().bytes, value);
    }
  }
  return made;
}

Result<Value> Evaluator::call_node(const Node& node, const Value* caller) {
  const Value callee = TRY(evaluate(node.a));
  Arguments given = TRY(arguments(node.index));
  if (caller) given.named.emplace_back("caller", *caller);
  line_ = node.line;
  return call(callee, std::move(given));
}

Result<Value> Evaluator::call(const Value& callee, Arguments arguments) {
  if (callee.is(Kind::undefined)) return wrong(callee.undefined().message);
  if (callee.is(Kind::loop)) {
    if (arguments.values.size() != 1 || !arguments.named.empty()) return wrong("loop() takes one iterable");
    return recurse(callee.loop(), arguments.values[0]);
  }
  if (!callee.is(Kind::callable)) return wrong(fmt::format("'{}' object is not callable", type_name(callee)));
  return callee.callable().call(*this, std::move(arguments));
}

Result<Value> Evaluator::filter_node(const Node& node) {
  Value of = node.a ? TRY(evaluate(node.a)) : block_text_;
  Arguments given = TRY(arguments(node.index));
  given.values.insert(given.values.begin(), std::move(of));
  line_ = node.line;
  return filter(tree_.names[node.name], std::move(given));
}

Result<Value> Evaluator::test_node(const Node& node) {
  Value of = TRY(evaluate(node.a));
  Arguments given = TRY(arguments(node.index));
  given.values.insert(given.values.begin(), std::move(of));
  line_ = node.line;
  return test(tree_.names[node.name], std::move(given));
}

Result<Value> Evaluator::filter(std::string_view name, Arguments arguments) {
  const Builtin* found = find_filter(name);
  if (!found) return wrong(fmt::format("No filter named '{}'.", name));
  return call_builtin(*found, *this, std::move(arguments));
}

Result<Value> Evaluator::test(std::string_view name, Arguments arguments) {
  const Builtin* found = find_test(name);
  if (!found) return wrong(fmt::format("No test named '{}'.", name));
  return call_builtin(*found, *this, std::move(arguments));
}

Value Evaluator::function(const Function& function) {
  for (Frame* frame = frame_; frame && !frame->kept; frame = frame->parent) frame->kept = true;
  return Value(Kind::callable, std::make_shared<Macro>(tree_, function, frame_));
}

Result<Value> Evaluator::new_names(std::vector<std::pair<Value, Value>> attributes) {
  CHECK_OK(charge(4));
  auto names = std::make_shared<Names>();
  names->attributes = std::move(attributes);
  names_.push_back(names);
  return Value(Kind::names, std::move(names));
}

Result<std::vector<Value>> Evaluator::collect(const Value& value) {
  if (value.is_sequence() || value.is(Kind::view)) {
    CHECK_OK(charge(value.list().items.size()));
    return value.list().items;
  }
  const IteratorPointer items = TRY(iterate(value));
  std::vector<Value> all;
  for (Value item; TRY(items->next(*this, item));) {
    CHECK_OK(charge(2));
    all.push_back(std::move(item));
  }
  return all;
}

Result<IteratorPointer> Evaluator::iterate(const Value& value) {
  switch (value.kind()) {
    case Kind::iterator:
      return std::static_pointer_cast<Iterator>(std::const_pointer_cast<Object>(value.pointer()));
    case Kind::undefined:
    case Kind::text:
    case Kind::list:
    case Kind::tuple:
    case Kind::view:
    case Kind::dict:
    case Kind::range:
      return items_of(value);
    default:
      return wrong(fmt::format("'{}' object is not iterable", type_name(value)));
  }
}

}  // namespace thimble::jinja
