#include "plan/homes.h"

#include <algorithm>

namespace thimble {

Droppable find_droppable(const Graph& graph) {
  const size_t count = graph.values().size();
  Droppable d{std::vector<char>(count, 0), std::vector<char>(count, 0), std::vector<int>(count, -1), 0};
  std::vector<char> backward_use(count, 0), boundary(count, 0);
  for (const Node& node : graph.nodes())
    for (ValueId id : node.in) {
      if (id == kNone) continue;
      const int producer = graph.producer(id);
      if (node.phase == Phase::backward) backward_use[static_cast<size_t>(id)] = 1;
      if (producer >= 0 && graph.nodes()[static_cast<size_t>(producer)].block != node.block &&
          node.phase == Phase::forward)
        boundary[static_cast<size_t>(id)] = 1;
    }
  for (const Node& node : graph.nodes()) {
    if (node.phase != Phase::forward || node.block < 0) continue;
    d.blocks = std::max(d.blocks, node.block + 1);
    const Cost cost = node.op->cost(node.attributes, graph.types(node.in), graph.types(node.out));
    bool cheap = !cost.multiplies();
    for (ValueId id : node.in) {
      if (id == kNone || graph.producer(id) < 0) continue;
      const auto i = static_cast<size_t>(id);
      cheap &= boundary[i] || d.cheap[i] || backward_use[i];
    }
    for (ValueId id : node.out) {
      if (id == kNone || graph.value(id).role != Role::activation) continue;
      const auto i = static_cast<size_t>(id);
      d.block[i] = node.block;
      d.inner[i] = !boundary[i];
      d.cheap[i] = cheap && !boundary[i];
    }
  }
  return d;
}

std::vector<char> recomputed_values(const Droppable& d, const BlockHomes& homes) {
  std::vector<char> out(d.block.size(), 0);
  for (size_t i = 0; i < out.size(); ++i) {
    if (d.block[i] < 0) continue;
    const Home& home = kHomes[homes.of(d.block[i])];
    if (home.recompute == Home::Recompute::cheap) out[i] = d.cheap[i];
    if (home.recompute == Home::Recompute::inner) out[i] = d.inner[i];
  }
  return out;
}

std::vector<char> spilled_values(const Graph& graph, const Droppable& d, const BlockHomes& homes, int64_t least_bytes) {
  std::vector<char> out = recomputed_values(d, homes);
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = d.block[i] >= 0 && kHomes[homes.of(d.block[i])].on_disk() && !out[i] &&
             graph.values()[i].type.bytes() >= least_bytes;
  return out;
}

}  // namespace thimble
