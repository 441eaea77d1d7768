// Forward-mode differentiation of a graph, ahead of time: beside a value its derivative along one direction.
//
//   y = f(x), x' the derivative of x along the direction:  y' = J_f(x) x'
//
// The derivative of a node's outputs is made right behind the node out of its operands and theirs, so that nothing of
// the pass waits for anything: values live as long as in evaluation, and their derivatives beside them. Values that do
// not depend on what moves have none, and cost nothing. Derivatives are in the codec of their value.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "core/result.h"
#include "graph/graph.h"

namespace thimble {

class Tangents {
 public:
  // The derivative of a leaf (a value without a producer), for one node that reads it; kNone: it does not move.
  using Seed = std::function<ValueId(Graph& graph, ValueId leaf)>;
  Tangents(Graph& graph, Seed seed) : graph_(graph), seed_(std::move(seed)) {}

  // Appends the derivatives of the outputs of a node of the graph. An error where an operand moves and the operation
  // has no derivative.
  Result<void> push(const Node& node);

  Graph& graph() { return graph_; }
  // kNone: it does not move.
  ValueId of(ValueId value);
  void set(ValueId output, ValueId tangent) { made_[output] = tangent; }
  std::string name(ValueId value) const { return "tangent." + graph_.value(value).name; }
  // Of an operation that is linear in each of those operands, none of whose others may move: the sum, over those that
  // move, of itself with the derivative in the operand's place.
  Result<void> push_linear(const Node& node, std::span<const size_t> linear);
  // a + b, either of which may be kNone.
  ValueId sum(ValueId a, ValueId b, std::string name);

 private:
  Graph& graph_;
  Seed seed_;
  std::map<ValueId, ValueId> made_;    // of what nodes make
  std::map<ValueId, ValueId> seeded_;  // of leaves, for the node that is being differentiated
};

// The hook of such an operation.
template <size_t... operands>
Result<void> linear_tangent(Tangents& tangents, const Node& node) {
  constexpr size_t kLinear[] = {operands...};
  return tangents.push_linear(node, kLinear);
}

}  // namespace thimble
