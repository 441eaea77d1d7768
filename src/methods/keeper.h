// The keeper socket: what waits, in place of an activation, from the forward pass to the gradient that reads it. One
// keeper is one row of the table in keeper.cpp.
//
// A keeper answers Backward::saved(): it emits what is kept where the activation was made, and what the gradient reads
// instead just before it does. Both are nodes like others: they are planned, recomputed and spilled as those are, and
// give the same bits at every budget. Values that blocks exchange are asked for by each block apart.
#pragma once

#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "graph/graph.h"

namespace thimble {

struct Keeper {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  // In which the activation is kept; nullptr: as it is.
  const Codec* codec = nullptr;

  bool exact() const { return codec == nullptr; }
};

std::span<const Keeper* const> keepers();
Result<const Keeper*> keeper_named(std::string_view name);

extern const Keeper kExactKeeper;
extern const Keeper kQ8Keeper;

// What a keeper has emitted for one backward pass.
class Kept {
 public:
  // Of the first `forward` nodes; the graph must outlive it.
  Kept(Graph& graph, const Keeper& keeper) : graph_(graph), keeper_(keeper), forward_(graph.nodes().size()) {}

  // What a gradient reads for a value of the forward pass.
  ValueId saved(ValueId value);
  // When the backward pass is complete: puts what is kept right behind what it is made of.
  void place();

 private:
  Graph& graph_;
  const Keeper& keeper_;
  const size_t forward_;
  std::map<std::pair<ValueId, int>, ValueId> restored_;  // by value and block
  std::vector<std::pair<size_t, size_t>> stores_;        // the value's producer, the node that keeps it
};

}  // namespace thimble
