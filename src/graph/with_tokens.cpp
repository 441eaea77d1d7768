#include "graph/with_tokens.h"

#include "graph/op.h"

namespace thimble {

Result<Graph> with_tokens(Graph graph, int64_t tokens) {
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const auto id = static_cast<ValueId>(i);
    Type& type = graph.value(id).type;
    if (type.extent == Extent::tokens && graph.producer(id) < 0) type.shape = type.shape.with_first(tokens);
  }
  for (const Node& node : graph.nodes()) {
    const std::vector<Type> types = TRY(node.op->infer(node.attributes, graph.types(node.in)));
    for (size_t i = 0; i < node.out.size(); ++i)
      if (node.out[i] != kNone) graph.value(node.out[i]).type = types[i];
  }
  return graph;
}

}  // namespace thimble
