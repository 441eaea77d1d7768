#include "graph/rewrite.h"

#include "graph/op.h"

namespace thimble {

ValueId GraphCopy::map(ValueId old) {
  if (old == kNone) return kNone;
  ValueId& fresh = map_[static_cast<size_t>(old)];
  if (fresh == kNone) fresh = to_.add_value(from_.value(old).name, from_.value(old).type, from_.value(old).role);
  return fresh;
}

void GraphCopy::bind(ValueId old, ValueId fresh) {
  map_[static_cast<size_t>(old)] = fresh;
  to_.value(fresh).name = from_.value(old).name;
  to_.value(fresh).role = from_.value(old).role;
}

void GraphCopy::copy(const Node& node) {
  std::vector<ValueId> in;
  for (ValueId id : node.in) in.push_back(map(id));
  std::vector<char> wanted;
  for (ValueId id : node.out) wanted.push_back(id != kNone);
  const auto out = to_.emit_all(*node.op, node.attributes, in, "copy",
                                {reinterpret_cast<const bool*>(wanted.data()), wanted.size()});
  for (size_t i = 0; i < out.size(); ++i)
    if (out[i] != kNone) bind(node.out[i], out[i]);
}

GraphCopy rewrite(const Graph& graph, const std::function<bool(GraphCopy&, const Node&)>& change) {
  GraphCopy copy(graph);
  for (const Node& node : graph.nodes()) {
    copy.graph().set_phase(node.phase);
    copy.graph().set_block(node.block);
    if (!change(copy, node)) copy.copy(node);
  }
  return copy;
}

}  // namespace thimble
