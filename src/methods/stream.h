// Techniques that change the residual stream itself: what every block reads, and at last the head, of what the blocks
// before it have made.
#pragma once

#include "methods/rewrite.h"
#include "ops/couple.h"

namespace thimble {

// What such a technique emits nodes with, block by block. `attributes.codec` is that of the model's activations.
class StreamRewrite : public ModuleRewrite {
 public:
  using ModuleRewrite::ModuleRewrite;

  int64_t layers = 0;  // of the model
  ModelTaps inputs;    // of the model: positions, starts and the window
  // What the next blocks read as positions and starts: the technique's to set, with rows that are fewer. The model's
  // to begin with.
  ValueId block_positions = kNone, block_starts = kNone;
  Wide first, second;         // streams so far, the technique's to set
  std::vector<ValueId> rows;  // of blocks, the technique's to gather
  // A value that trains, called so.
  ValueId trained(const std::string& name, const Shape& shape, const Initial& initial) {
    return add(name, shape, initial, {.shared = true});
  }
};

// The graph with the technique's streams in it (Rewrite::stream) and without the blocks that it does not read
// (Rewrite::blocks), whose tensors and losses are removed; the other losses become those of the result.
Result<Graph> rewrite_stream(const Graph& graph, const RewriteSpec& spec, RewriteUse use, const ModelTaps& taps,
                             std::map<std::string, AdapterTensor>& tensors, std::vector<ValueId>& losses);

}  // namespace thimble
