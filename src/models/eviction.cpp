#include "models/eviction.h"

#include "ops/cache_keep.h"

namespace thimble {

Result<void> add_eviction(Graph& graph, const Architecture& a, const BuildOptions& o) {
  if (a.learned_positions > 0)
    return fail(ErrorCode::unsupported,
                "--cache: the model has learned positions, which tokens that stay could not leave; leave the flag out");
  const ValueId slot = graph.add_value(o.prefix + "slot", {{1}, &kI32}, Role::input);
  const ValueId kept = graph.add_value(o.prefix + "kept", {{o.positions}, &kI32}, Role::input);
  for (int64_t layer = 0; layer < a.layers(); ++layer) {
    const Block& block = a.blocks[static_cast<size_t>(layer)];
    if (block.mixer) continue;  // a state forgets by itself
    const Attention& attention = block.attention;
    RopeAttributes attributes{.head_dim = attention.head_dim};
    ValueId table = kNone;
    if (attention.rope >= 0) {
      const Rope& rope = a.ropes[static_cast<size_t>(attention.rope)];
      attributes.rotated = rope.rotated, attributes.interleaved = rope.layout == Rope::Layout::interleaved;
      table = add_rope_table(graph, a, static_cast<size_t>(attention.rope), o);
    }
    const auto [keys, values] = add_cache(graph, attention, fmt::format("model.layers.{}.self_attn", layer), o);
    graph.set_block(static_cast<int>(layer));
    graph.emit_all(kCacheKeep, attributes, {keys, values, slot, kept, table}, fmt::format("kept.{}", layer));
  }
  graph.set_block(-1);
  return {};
}

}  // namespace thimble
