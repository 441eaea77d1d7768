// Copying a graph while changing it: what a rewrite does to a model.
#pragma once

#include <functional>

#include "graph/graph.h"

namespace thimble {

class GraphCopy {
 public:
  explicit GraphCopy(const Graph& from) : from_(from), map_(from.values().size(), kNone) {}

  Graph& graph() { return to_; }
  const Graph& from() const { return from_; }
  // The copy of a value; inputs, weights and the like are copied when first asked for.
  ValueId map(ValueId old);
  // Says that `inserted` stands for `old` from now on; it takes over the name and role.
  void bind(ValueId old, ValueId inserted);
  // The same of nodes that are copied from now on alone: no name or role is taken over.
  void substitute(ValueId old, ValueId by) { map_[static_cast<size_t>(old)] = by; }
  // Copies all inputs: the host writes them whether or not anything reads them.
  void copy_inputs();
  // Copies a node as it is.
  void copy(const Node& node) { emit(node, mapped(node.in)); }
  // The same of other operands of the copy.
  void emit(const Node& node, std::vector<ValueId> in);
  // What the node makes of other operands of the copy, beside what it is copied as: new values called `name`, with
  // kNone for outputs that nothing wants.
  std::vector<ValueId> emit_beside(const Node& node, const std::vector<ValueId>& in, const std::string& name);
  std::vector<ValueId> mapped(std::span<const ValueId> old);

 private:
  const Graph& from_;
  Graph to_;
  std::vector<ValueId> map_;
};

// Copies every node for which `change` returns false; the others it has dealt with itself.
GraphCopy rewrite(const Graph& graph, const std::function<bool(GraphCopy&, const Node&)>& change);

}  // namespace thimble
