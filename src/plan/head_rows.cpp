#include "plan/head_rows.h"

#include "ops/table.h"

namespace thimble {

std::vector<int64_t> head_rows(const Graph& g) {
  std::vector<int64_t> out(g.values().size(), 0);
  for (const Node& attention : g.nodes()) {
    if (attention.op != &kAttention) continue;
    for (ValueId id : {attention.in[0], attention.in[1]}) {
      const int64_t width = g.value(id).type.shape.columns();
      for (int made = g.producer(id); made >= 0;) {
        const Node& node = g.nodes()[static_cast<size_t>(made)];
        if (node.op == &kLinear) {
          const auto& terms = node.as<LinearAttributes>().terms;
          for (size_t i = 0; i < terms.size(); ++i)
            if (terms[i].transposed && g.value(node.in[2 * i + 1]).type.shape.rows() == width)
              out[static_cast<size_t>(node.in[2 * i + 1])] = attention.as<AttentionAttributes>().head_dim;
          break;
        }
        if (node.in.empty() || g.value(node.in[0]).type.shape.columns() != width) break;
        made = g.producer(node.in[0]);
      }
    }
  }
  return out;
}

}  // namespace thimble
