// Reverse-mode differentiation of a graph, ahead of time, for exactly what is trained.
//
// Gradients are ordinary nodes appended to the graph. Contributions to one activation's gradient that are matrix
// products are gathered into one `linear` node, rounded once.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace thimble {

// One product of a gathered gradient: x W (or x W^T when transposed), times scale.
struct ProductTerm {
  ValueId x;
  ValueId w;
  bool transposed;
  float scale;
};

class Backward {
 public:
  explicit Backward(Graph& graph);

  Graph& graph() { return graph_; }
  // Whether anything trained depends on this value, so that its gradient is needed.
  bool wanted(ValueId id) const { return id != kNone && wanted_[static_cast<size_t>(id)]; }

  // Starts at `loss` (a scalar result, whose own gradient is the operand `scale`, or 1) and walks back.
  void run();

  // The gradient that has been gathered for an output of the node being differentiated; kNone: it is not used.
  ValueId gradient_of(ValueId output);
  // Adds to the gradient of an activation.
  void add(ValueId value, ValueId contribution);
  void add_product(ValueId value, const ProductTerm& term);
  // The accumulator of a parameter's gradient, to be handed to an operation that adds to it, and what it returned.
  ValueId accumulator(ValueId parameter);
  void set_accumulator(ValueId parameter, ValueId updated);
  // Name for the gradient of a value.
  std::string name(ValueId value) const;

  struct ParameterGradient {
    ValueId parameter;
    ValueId first;  // of role gradient
    ValueId last;   // the final version
  };
  const std::vector<ParameterGradient>& parameters() const { return parameters_; }

 private:
  struct Gathered {
    std::vector<ProductTerm> products;
    ValueId sum = kNone;
  };
  ValueId settle(ValueId value);

  Graph& graph_;
  std::vector<char> wanted_;
  std::map<ValueId, Gathered> gathered_;
  std::map<ValueId, size_t> index_;
  std::vector<ParameterGradient> parameters_;
};

}  // namespace thimble
