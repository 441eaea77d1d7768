// Runs a graph by the scalar references, in double.
#pragma once

#include <map>
#include <vector>

#include "core/random.h"
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

// Random numbers for what no node makes, by the values' names.
inline void fill_sources(const Graph& graph, ReferenceValues& values, uint64_t seed) {
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const auto id = static_cast<ValueId>(i);
    if (graph.producer(id) >= 0) continue;
    const Random random(seed, graph.value(id).name);
    for (int64_t k = 0; k < graph.value(id).type.shape.count(); ++k)
      values[id].push_back(random.normal(static_cast<uint64_t>(k)));
  }
}

}  // namespace thimble
