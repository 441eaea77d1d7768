// Runs a graph by the scalar references, in double.
#pragma once

#include <map>
#include <vector>

#include "graph/op.h"

namespace thimble {

using ReferenceValues = std::map<ValueId, std::vector<double>>;

inline void run_reference(const Graph& graph, ReferenceValues& values, RunContext& run) {
  for (const Node& node : graph.nodes()) {
    std::vector<ReferenceOperand> in, out;
    for (ValueId id : node.in)
      in.push_back(id == kNone ? ReferenceOperand{} : ReferenceOperand{&values.at(id), graph.value(id).type.shape});
    for (ValueId id : node.out) {
      if (id == kNone) {
        out.push_back({});
        continue;
      }
      values[id].assign(static_cast<size_t>(graph.value(id).type.shape.count()), 0.0);
      out.push_back({&values[id], graph.value(id).type.shape});
    }
    node.op->reference({node.attributes, in, out, run});
  }
}

}  // namespace thimble
