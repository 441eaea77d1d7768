#include "plan/hoist.h"

#include <algorithm>

namespace thimble {
namespace {

// Parameters and keepers' states that are read when a value of the forward pass is computed again within its block, by
// value: what the backward pass reads may have been dropped. Blocks' inputs are kept.
std::vector<std::vector<ValueId>> read_to_recompute(const Graph& graph) {
  std::vector<std::vector<ValueId>> reads(graph.values().size());
  std::vector<int> block(graph.values().size(), -2);
  for (const Node& node : graph.nodes()) {
    if (node.phase != Phase::forward) continue;
    std::vector<ValueId> all;
    for (const ValueId id : node.in) {
      if (id == kNone) continue;
      if (graph.value(id).role == Role::parameter || graph.value(id).role == Role::state) all.push_back(id);
      const auto& inner = reads[static_cast<size_t>(id)];
      if (block[static_cast<size_t>(id)] == node.block) all.insert(all.end(), inner.begin(), inner.end());
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    for (const ValueId id : node.out) {
      if (id == kNone) continue;
      block[static_cast<size_t>(id)] = node.block;
      reads[static_cast<size_t>(id)] = all;
    }
  }
  return reads;
}

}  // namespace

void hoist(Graph& graph, size_t begin, size_t end) {
  const auto& nodes = graph.nodes();
  const auto recomputed = read_to_recompute(graph);
  std::vector<int> last_touch(graph.values().size(), -1);
  std::vector<std::pair<int, size_t>> order;  // (after which node, node)
  for (size_t i = 0; i < nodes.size(); ++i) {
    int after = static_cast<int>(i);
    if (i >= begin && i < end) {
      after = 0;
      for (ValueId id : nodes[i].in)
        if (id != kNone) after = std::max(after, last_touch[static_cast<size_t>(id)]);
    }
    const auto touch = [&](ValueId id) {
      last_touch[static_cast<size_t>(id)] = std::max(last_touch[static_cast<size_t>(id)], after);
    };
    for (ValueId id : nodes[i].in) {
      if (id == kNone) continue;
      touch(id);
      if (nodes[i].phase == Phase::backward)
        for (ValueId parameter : recomputed[static_cast<size_t>(id)]) touch(parameter);
    }
    for (ValueId id : nodes[i].out)
      if (id != kNone) last_touch[static_cast<size_t>(id)] = after;
    order.emplace_back(after, i);
  }
  std::stable_sort(order.begin(), order.end());
  std::vector<size_t> permutation;
  permutation.reserve(order.size());
  for (const auto& [after, node] : order) permutation.push_back(node);
  graph.reorder(permutation);
}

}  // namespace thimble
