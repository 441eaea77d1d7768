// Runs a tree: one evaluator a rendering. Bounded in steps, in bytes and in depth; it reads and writes nothing else.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/template.h"
#include "text/jinja/tree.h"

namespace thimble::jinja {

// Variables of one scope; what is not found here is looked for in the parent.
struct Frame {
  Frame* parent = nullptr;
  std::vector<std::pair<NameId, Value>> variables;
  bool kept = false;  // a macro may come back to it

  const Value* find(NameId name) const;
  void set(NameId name, Value value);
};

// The variable `loop`.
struct Loop final : Object {
  IteratorPointer items;
  std::optional<int64_t> length;
  std::vector<Value> ahead;  // at most one, already taken from `items`
  Value before, current;
  Value last_changed = Value::absent();
  int64_t index0 = -1, depth0 = 0;
  const Node* node = nullptr;  // of a recursive one
  Frame* frame = nullptr;

  Result<bool> next(Evaluator& evaluator, Value& item);
  Result<bool> peek(Evaluator& evaluator);
  Result<int64_t> size(Evaluator& evaluator);
  Result<Value> attribute(Evaluator& evaluator, std::string_view name, const Value& self);
};

class Evaluator {
 public:
  Evaluator(const Tree& tree, const RenderOptions& options);
  ~Evaluator();

  // Once only.
  Result<Rendering> run(std::span<const Variable> variables);

  // Takes work off what is allowed: one for a step, one for each 32 bytes that are made.
  Result<void> charge(uint64_t steps);
  Result<void> check_length(uint64_t bytes) const;  // of a text
  Result<Value> made(TextBuilder& text, bool markup = false);

  Result<IteratorPointer> iterate(const Value& value);
  Result<std::vector<Value>> collect(const Value& value);
  Result<Value> attribute(const Value& of, std::string_view name);
  Result<Value> item(const Value& of, const Value& key);
  Result<Value> call(const Value& callee, Arguments arguments);
  Result<Value> filter(std::string_view name, Arguments arguments);
  Result<Value> test(std::string_view name, Arguments arguments);
  Result<Value> recurse(const Loop& loop, const Value& items);
  Result<Value> new_names(std::vector<std::pair<Value, Value>> attributes);
  Result<bool> keep_item(const Node& loop, Frame* frame, const Value& item);  // the test of a loop
  Failure raise(std::string message);
  const std::tm& date() const { return options_.date; }
  bool raised() const { return raised_; }  // by raise_exception

 private:
  friend struct Macro;
  static constexpr NameId kNoName = ~NameId{0};
  static constexpr int kDeepestCalls = 2000;             // evaluations within each other
  static constexpr uintptr_t kMostStackBytes = 3 << 20;  // however large a build makes their frames
  enum class Flow { on, stop, next };
  struct Deeper {
    explicit Deeper(int& depth) : depth(++depth) {}
    ~Deeper() { --depth; }
    int& depth;
  };
  class Scope;

  // Evaluations within each other are too many, or have taken too much of the stack.
  bool too_deep() const {
    const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    return depth_ > kDeepestCalls || (here < stack_ && stack_ - here > kMostStackBytes);
  }

  Result<Flow> execute(NodeId id);
  Result<Flow> execute_block(const Node& node);
  Result<void> output(const Node& node);
  Result<void> emit(const Value& value);
  Result<Flow> condition(const Node* node);
  Result<Flow> loop(const Node& node, const Value& items, int64_t depth);
  Result<void> loop_bodies(const Node& node, Loop& state, const Value& self, bool& completed);
  Result<void> assign(NodeId target, Value value);
  Result<Flow> assign_block(const Node& node);
  Result<Flow> with(const Node& node);
  Result<void> call_block(const Node& node);
  Result<Flow> generation(const Node& node);
  // The text of a body in a scope of its own.
  Result<Value> captured(NodeId body, Flow& flow);
  Result<Flow> scoped(NodeId body, Frame* parent);

  Result<Value> evaluate(NodeId id);
  Result<Value> variable(const Node& node);
  Result<std::vector<Value>> children(const Node& node);
  Result<Value> dict(const Node& node);
  Result<Value> slice(const Value& of, const Node& node);
  Result<Value> concat(const Node& node);
  Result<Value> compare(const Node& node);
  Result<Value> short_circuit(const Node& node);
  Result<Value> call_node(const Node& node, const Value* caller);
  Result<Arguments> arguments(uint32_t site);
  Result<Value> filter_node(const Node& node);
  Result<Value> test_node(const Node& node);
  Value function(const Function& function);

  const Node& node(NodeId id) const { return tree_.nodes[id]; }
  NodeId child(const Node& node, uint32_t i) const { return tree_.children[node.first + i]; }
  Frame* new_frame(Frame* parent);
  void release(Frame* frame);

  const Tree& tree_;
  const RenderOptions& options_;
  uint64_t steps_left_;
  std::vector<Value> globals_;  // by name; absent where there is none
  std::vector<std::unique_ptr<Frame>> frames_;
  std::vector<Frame*> free_;
  Frame* frame_ = nullptr;
  Frame* root_frame_ = nullptr;
  TextBuilder root_;
  TextBuilder* out_ = &root_;
  Value block_text_;  // what a block's filters begin with
  std::vector<std::shared_ptr<Names>> names_;
  std::vector<Span> generated_;
  NameId loop_name_ = kNoName;  // of `loop`, where the template has it
  uint32_t line_ = 0;
  int depth_ = 0;
  const uintptr_t stack_ = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));  // where this began
  bool raised_ = false;
};

// a what b; a is in b.
Result<Value> binary(Evaluator& evaluator, What what, const Value& a, const Value& b);
Result<Value> negative(const Value& value, bool minus);
Result<bool> contains(Evaluator& evaluator, const Value& all, const Value& one);
Result<bool> compare_values(Evaluator& evaluator, What what, const Value& a, const Value& b);
// Python's positions of a slice over `size` items.
struct Positions {
  int64_t start, step, count;
};
Result<Positions> slice_positions(const Value& start, const Value& stop, const Value& step, int64_t size);
Result<Value> sliced(Evaluator& evaluator, const Value& of, const Value& start, const Value& stop, const Value& step);

Result<Value> percent_format(Evaluator& evaluator, const Text& format, const Value& values);
Result<Value> brace_format(Evaluator& evaluator, const Text& format, const Arguments& values);
Result<Value> to_json(Evaluator& evaluator, const Value& value, const struct JsonStyle& style);
// Markup's escaping of < > & ' ".
TextPointer escaped(const Value& value);
Result<Value> join(Evaluator& evaluator, const Text& separator, std::span<const Value> items);

// The iterator over a list's items, a text's characters, ...; `from` is one of these.
IteratorPointer items_of(Value from);

}  // namespace thimble::jinja
