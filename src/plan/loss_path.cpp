#include "plan/loss_path.h"

#include <algorithm>
#include <set>
#include <utility>

#include "methods/objective.h"
#include "ops/table.h"

namespace thimble {

LossPath::LossPath(const Graph& graph, std::string loss, ValueId stream) : name(std::move(loss)) {
  const ValueId scaled = graph.find(name + std::string(kScaledLoss));
  differentiated = scaled != kNone ? scaled : graph.find(name);
  std::set<ValueId> needed{differentiated};
  std::vector<const Node*> all;
  for (size_t i = graph.nodes().size(); i-- > 0;) {
    const Node& node = graph.nodes()[i];
    const auto is_needed = [&](ValueId out) { return out != stream && needed.contains(out); };
    if (std::ranges::none_of(node.out, is_needed)) continue;
    all.push_back(&node);
    for (const ValueId in : node.in)
      if (in != kNone) needed.insert(in);
  }
  std::ranges::reverse(all);
  std::set<ValueId> reached{stream};
  for (const Node* const node : all) {
    const bool reads = std::ranges::any_of(node->in, [&](ValueId in) { return reached.contains(in); });
    (reads ? behind : beside).push_back(node);
    if (!reads) continue;
    for (const ValueId out : node->out)
      if (out != kNone) reached.insert(out);
  }
}

bool LossPath::is_beside(const Node& node) const { return std::ranges::find(beside, &node) != beside.end(); }

bool LossPath::wants(const Node& node, size_t output) const {
  if (node.op == &kLinearCrossEntropy && output == kLogitsOfLoss) return false;
  const auto loss = std::ranges::find(node.out, differentiated);
  if (loss == node.out.end()) return true;
  // The node that ends in the loss has results behind it; one that is a loss from tiles has what its gradient reads.
  return node.op == &kLinearCrossEntropy || static_cast<std::ptrdiff_t>(output) <= loss - node.out.begin();
}

}  // namespace thimble
