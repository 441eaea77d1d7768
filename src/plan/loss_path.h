// What of a graph lies between the model's last residual stream and the loss: what a module copies for a loss of its
// own.
#pragma once

#include <string>
#include <vector>

#include "graph/graph.h"

namespace thimble {

struct LossPath {
  // Of the result `loss` of a model whose blocks end in the value `stream`.
  LossPath(const Graph& graph, std::string loss, ValueId stream);

  bool is_beside(const Node& node) const;
  // Whether a module's loss has a use for an output of a node behind the stream: not for what only people read.
  bool wants(const Node& node, size_t output) const;

  std::string name;
  ValueId differentiated = kNone;   // what gradients are derived of: the loss, or what has its scale beside it
  std::vector<const Node*> behind;  // in order: they read the stream, or what is made of it
  std::vector<const Node*> beside;  // in order: these read them, and no stream (a teacher)
};

}  // namespace thimble
