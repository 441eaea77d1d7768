#include "text/jinja/evaluator.h"

#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/macro.h"

namespace thimble::jinja {
const Value* Frame::find(NameId name) const {
  for (const auto& [id, value] : variables) {
    if (id == name) return &value;
  }
  return nullptr;
}

void Frame::set(NameId name, Value value) {
  for (auto& [id, old] : variables) {
    if (id == name) return void(old = std::move(value));
  }
  variables.emplace_back(name, std::move(value));
}

// A frame that ends with the block.
class Evaluator::Scope {
 public:
  Scope(Evaluator& evaluator, Frame* parent)
      : evaluator_(evaluator), outside_(std::exchange(evaluator.frame_, evaluator.new_frame(parent))) {}
  ~Scope() { evaluator_.release(std::exchange(evaluator_.frame_, outside_)); }

 private:
  Evaluator& evaluator_;
  Frame* const outside_;
};

Evaluator::Evaluator(const Tree& tree, const RenderOptions& options)
    : tree_(tree), options_(options), steps_left_(options.steps) {
  globals_.assign(tree.names.size(), Value::absent());
  for (size_t i = 0; i < tree.names.size(); ++i) {
    if (tree.names[i] == "loop") loop_name_ = static_cast<NameId>(i);
    for (const Builtin& function : global_functions()) {
      if (function.name == tree.names[i])
        globals_[i] = Value(Kind::callable, std::make_shared<BuiltinCallable>(function, Value::absent()));
    }
  }
}

Evaluator::~Evaluator() {
  for (const auto& names : names_) names->attributes.clear();
}

Result<Rendering> Evaluator::run(std::span<const Variable> variables) {
  const auto set = [&](std::string_view name, Value value) {
    const auto found = std::ranges::find(tree_.names, name);
    if (found != tree_.names.end()) globals_[static_cast<size_t>(found - tree_.names.begin())] = std::move(value);
  };
  for (const auto& [name, value] : variables) set(name, value);
  frame_ = root_frame_ = new_frame(nullptr);
  set("self", Value(Kind::callable, std::make_shared<Blocks>(tree_, root_frame_)));
  const auto done = execute(tree_.root);
  if (!done) {
    if (raised_) return Failure(done.error());
    return fail(done.error().code, "line {}: {}", line_, done.error().message);
  }
  return Rendering{root_.take(), std::move(generated_)};
}

Result<void> Evaluator::charge(uint64_t steps) {
  if (steps > steps_left_) {
    steps_left_ = 0;
    return wrong(fmt::format("it takes more than {} steps", options_.steps));
  }
  steps_left_ -= steps;
  return {};
}

Result<void> Evaluator::check_length(uint64_t bytes) const {
  if (bytes <= options_.longest_text) return {};
  return wrong(fmt::format("it makes a text of more than {} bytes", options_.longest_text));
}

Result<Value> Evaluator::made(TextBuilder& text, bool markup) {
  CHECK_OK(check_length(text.size()));
  CHECK_OK(charge(1 + text.size() / 32));
  return Value(text.finish(markup));
}

Frame* Evaluator::new_frame(Frame* parent) {
  Frame* frame = nullptr;
  if (free_.empty()) {
    frames_.push_back(std::make_unique<Frame>());
    frame = frames_.back().get();
  } else {
    frame = free_.back();
    free_.pop_back();
  }
  frame->parent = parent;
  return frame;
}

void Evaluator::release(Frame* frame) {
  if (frame->kept) return;
  frame->variables.clear();
  free_.push_back(frame);
}

Failure Evaluator::raise(std::string message) {
  raised_ = true;
  return wrong(std::move(message));
}

Result<Evaluator::Flow> Evaluator::execute(NodeId id) {
  const Deeper deeper(depth_);
  if (too_deep()) return wrong("maximum recursion depth exceeded");
  const Node& one = node(id);
  if (one.line != 0) line_ = one.line;
  CHECK_OK(charge(1));
  switch (one.kind) {
    case NodeKind::block:
      return execute_block(one);
    case NodeKind::text:
      CHECK_OK(emit(tree_.constants[one.index]));
      return Flow::on;
    case NodeKind::output:
      CHECK_OK(output(one));
      return Flow::on;
    case NodeKind::condition:
      return condition(&one);
    case NodeKind::loop:
      return loop(one, TRY(evaluate(one.b)), 0);
    case NodeKind::assign:
      CHECK_OK(assign(one.a, TRY(evaluate(one.b))));
      return Flow::on;
    case NodeKind::assign_block:
    case NodeKind::filter_block:
      return assign_block(one);
    case NodeKind::macro:
      frame_->set(tree_.functions[one.index].name, function(tree_.functions[one.index]));
      return Flow::on;
    case NodeKind::call_block:
      CHECK_OK(call_block(one));
      return Flow::on;
    case NodeKind::with:
      return with(one);
    case NodeKind::scope:
      return scoped(one.c, one.what == What::next ? frame_ : root_frame_);
    case NodeKind::autoescape:
      if (truth(TRY(evaluate(one.a)))) return wrong("automatic escaping is not supported");
      return scoped(one.c, frame_);
    case NodeKind::generation:
      return generation(one);
    case NodeKind::leave:
      return one.what == What::stop ? Flow::stop : Flow::next;
    case NodeKind::refused:
      return wrong(tree_.constants[one.index].text().bytes);
    default:
      return wrong("not a statement");
  }
}

Result<Evaluator::Flow> Evaluator::execute_block(const Node& node) {
  // A variable that is given does not show through in the scope that begins here, nor within it.
  for (const NameId name : tree_.unset[node.index]) {
    if (globals_[name].given())
      frame_->set(name, Value::undefined(fmt::format("'{}' is undefined", tree_.names[name])));
  }
  for (uint32_t i = 0; i < node.count; ++i) {
    const Flow flow = TRY(execute(child(node, i)));
    if (flow != Flow::on) return flow;
  }
  return Flow::on;
}

Result<void> Evaluator::emit(const Value& value) {
  const size_t before = out_->size();
  write_text(value, *out_);
  CHECK_OK(check_length(out_->size()));
  return charge((out_->size() - before) / 32);
}

Result<void> Evaluator::output(const Node& node) {
  for (uint32_t i = 0; i < node.count; ++i) {
    const Value value = TRY(evaluate(child(node, i)));
    CHECK_OK(emit(value));
  }
  return {};
}

Result<Evaluator::Flow> Evaluator::condition(const Node* one) {
  for (;;) {
    line_ = one->line;
    if (truth(TRY(evaluate(one->a)))) return execute(one->b);
    if (one->c == 0) return Flow::on;
    if (node(one->c).kind != NodeKind::condition) return execute(one->c);
    one = &node(one->c);
  }
}

Result<void> Evaluator::assign(NodeId target, Value value) {
  const Node& to = node(target);
  if (to.kind == NodeKind::variable) {
    frame_->set(to.name, std::move(value));
    return {};
  }
  if (to.kind == NodeKind::names_attribute) {
    const Value names = TRY(variable(to));
    if (!names.is(Kind::names)) return wrong("cannot assign attribute on non-namespace object");
    const std::string& attribute = tree_.names[to.index];
    if (attribute.starts_with('_'))
      return wrong(fmt::format("a namespace has no attribute that begins with an underscore ('{}')", attribute));
    auto& attributes = names.names().attributes;
    for (auto& [key, old] : attributes) {
      if (key.is(Kind::text) && key.bytes() == attribute) return void(old = std::move(value)), Result<void>{};
    }
    attributes.emplace_back(Value::text(attribute), std::move(value));
    return {};
  }
  const std::vector<Value> items = TRY(collect(value));
  if (items.size() != to.count)
    return wrong(fmt::format("cannot unpack {} values into {} names", items.size(), to.count));
  for (uint32_t i = 0; i < to.count; ++i) CHECK_OK(assign(child(to, i), items[i]));
  return {};
}

Result<Value> Evaluator::captured(NodeId body, Flow& flow) {
  TextBuilder buffer;
  TextBuilder* const outside = std::exchange(out_, &buffer);
  const auto done = scoped(body, frame_);
  out_ = outside;
  flow = TRY(done);
  return made(buffer);
}

Result<Evaluator::Flow> Evaluator::scoped(NodeId body, Frame* parent) {
  const Scope scope(*this, parent);
  return execute(body);
}

Result<Evaluator::Flow> Evaluator::assign_block(const Node& node) {
  Flow flow = Flow::on;
  Value text = TRY(captured(node.c, flow));
  if (flow != Flow::on) return flow;  // the loop around it was left: nothing comes of the text
  if (node.b != 0) {
    const Value outside = std::exchange(block_text_, std::move(text));
    auto filtered = evaluate(node.b);
    block_text_ = outside;
    text = TRY(std::move(filtered));
  }
  if (node.kind == NodeKind::filter_block) {
    CHECK_OK(emit(text));
  } else {
    CHECK_OK(assign(node.a, std::move(text)));
  }
  return Flow::on;
}

Result<Evaluator::Flow> Evaluator::with(const Node& node) {
  std::vector<Value> values;
  for (uint32_t i = 1; i < node.count; i += 2) values.push_back(TRY(evaluate(child(node, i))));
  const Scope scope(*this, frame_);
  for (uint32_t i = 0; i < node.count; i += 2) CHECK_OK(assign(child(node, i), values[i / 2]));
  return execute(node.c);
}

Result<Evaluator::Flow> Evaluator::generation(const Node& node) {
  const size_t begin = count_code_points(root_.view());
  Flow flow = Flow::on;
  const Value text = TRY(captured(node.c, flow));
  generated_.push_back({begin, begin + text.text().length});
  CHECK_OK(emit(text));
  return Flow::on;
}

Result<void> Evaluator::call_block(const Node& call) {
  const Value caller = function(tree_.functions[call.index]);
  return emit(TRY(call_node(node(call.a), &caller)));
}

// ---- loops ----

Result<Evaluator::Flow> Evaluator::loop(const Node& node, const Value& items, int64_t depth) {
  auto state = std::make_shared<Loop>();
  state->items = TRY(iterate(items));
  state->depth0 = depth;
  if (node.what == What::recursive) {
    state->node = &node;
    state->frame = frame_;
    for (Frame* frame = frame_; frame && !frame->kept; frame = frame->parent) frame->kept = true;
  }
  if (node.c != 0) {
    state->items = std::make_shared<TestedItems>(state->items, node, frame_);
  } else if (auto size = size_of(items)) {
    state->length = *size;
  }
  bool completed = false;
  CHECK_OK(loop_bodies(node, *state, Value(Kind::loop, state), completed));
  if (completed || child(node, 1) == 0) return Flow::on;
  return scoped(child(node, 1), frame_);  // what leaves a loop there, leaves the one around
}

// `completed`: one body went through to its end, which is what decides about `else`.
Result<void> Evaluator::loop_bodies(const Node& node, Loop& state, const Value& self, bool& completed) {
  for (Value item;;) {
    CHECK_OK(charge(1));
    if (!TRY(state.next(*this, item))) return {};
    const Scope scope(*this, frame_);
    CHECK_OK(assign(node.a, item));
    if (loop_name_ != kNoName) frame_->set(loop_name_, self);
    const Flow flow = TRY(execute(child(node, 0)));
    if (flow == Flow::stop) return {};
    completed |= flow == Flow::on;
  }
}

Result<bool> Evaluator::keep_item(const Node& node, Frame* frame, const Value& item) {
  const Scope scope(*this, frame);
  CHECK_OK(assign(node.a, item));
  return truth(TRY(evaluate(node.c)));
}

Result<Value> Evaluator::recurse(const Loop& state, const Value& items) {
  if (!state.node) return wrong("The loop must have the 'recursive' marker to be called recursively.");
  const Deeper deeper(depth_);
  if (too_deep()) return wrong("maximum recursion depth exceeded");
  TextBuilder buffer;
  TextBuilder* const out = std::exchange(out_, &buffer);
  Frame* const frame = std::exchange(frame_, state.frame);
  const auto done = loop(*state.node, items, state.depth0 + 1);
  out_ = out;
  frame_ = frame;
  CHECK_OK(done);
  return made(buffer);
}

}  // namespace thimble::jinja
