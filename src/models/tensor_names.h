// What other formats call thimble's tensors. One table serves reading and writing.
#pragma once

#include <string>
#include <string_view>

namespace thimble {

struct ForeignName {
  std::string name;
  int part = -1;  // 0, 1, 2: the q, k or v of a fused matrix; -1: the whole tensor
};

// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight". GPT-2's q, k and v are fused ("attn_qkv").
ForeignName gguf_name(std::string_view thimble_name, bool fused_qkv);

// A weight or bias of q_proj or k_proj, whose rows depend on the layout of rope.
bool is_q_or_k(std::string_view thimble_name);

// -> "transformer.h.3.attn.c_attn.weight", part 0.
ForeignName gpt2_name(std::string_view thimble_name);

}  // namespace thimble
