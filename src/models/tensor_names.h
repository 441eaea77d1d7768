// What thimble's names of tensors say, and what GGUF calls them.
#pragma once

#include <string>
#include <string_view>

#include "models/architecture.h"

namespace thimble {

// "model.layers.3.mlp.up_proj.weight" in its parts; `layer` is empty outside the blocks, and `module` then the whole
// name but the suffix.
struct NameParts {
  std::string_view layer, module, suffix;  // "3", "mlp.up_proj", ".weight"
};
NameParts split_name(std::string_view name);

// Of a tensor within a block.
size_t block_of(std::string_view name);

// A weight or bias of q_proj or k_proj, whose rows depend on the layout of rope.
bool is_q_or_k(std::string_view name);
// Elements of a head of the block that the tensor is in; 0 outside of blocks.
int64_t head_dim_of(const Architecture& architecture, std::string_view name);

// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight".
std::string gguf_name(std::string_view name);

}  // namespace thimble
