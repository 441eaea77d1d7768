#include "graph/rewrite.h"

#include "graph/op.h"

namespace thimble {

ValueId GraphCopy::map(ValueId old) {
  if (old == kNone) return kNone;
  ValueId& copied = map_[static_cast<size_t>(old)];
  const Value& value = from_.value(old);
  if (copied != kNone) return copied;
  // What is inserted may have brought the same constant.
  copied = value.role == Role::constant ? to_.constant(value.name, value.type, value.initial)
                                        : to_.add_value(value.name, value.type, value.role, value.initial);
  return copied;
}

void GraphCopy::bind(ValueId old, ValueId inserted) {
  map_[static_cast<size_t>(old)] = inserted;
  to_.value(inserted).name = from_.value(old).name;
  to_.value(inserted).role = from_.value(old).role;
}

void GraphCopy::copy_inputs() {
  for (size_t i = 0; i < from_.values().size(); ++i)
    if (from_.values()[i].role == Role::input) map(static_cast<ValueId>(i));
}

std::vector<ValueId> GraphCopy::mapped(std::span<const ValueId> old) {
  std::vector<ValueId> out;
  for (ValueId id : old) out.push_back(map(id));
  return out;
}

std::vector<ValueId> GraphCopy::emit_beside(const Node& node, const std::vector<ValueId>& in, const std::string& name) {
  constexpr size_t kMostOutputs = 64;
  bool wanted[kMostOutputs];
  assert(node.out.size() <= kMostOutputs);
  for (size_t i = 0; i < node.out.size(); ++i) wanted[i] = node.out[i] != kNone;
  return to_.emit_all(*node.op, node.attributes, in, name, {wanted, node.out.size()});
}

void GraphCopy::emit(const Node& node, std::vector<ValueId> in) {
  const auto out = emit_beside(node, in, "copy");
  for (size_t i = 0; i < out.size(); ++i)
    if (out[i] != kNone) bind(node.out[i], out[i]);
}

GraphCopy rewrite(const Graph& graph, const std::function<bool(GraphCopy&, const Node&)>& change) {
  GraphCopy copy(graph);
  copy.copy_inputs();
  for (const Node& node : graph.nodes()) {
    copy.graph().set_phase(node.phase);
    copy.graph().set_block(node.block);
    if (!change(copy, node)) copy.copy(node);
  }
  return copy;
}

}  // namespace thimble
