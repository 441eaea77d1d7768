#include "models/tensor_names.h"

#include <array>
#include <cassert>

namespace thimble {
namespace {

struct NameRow {
  std::string_view thimble, gguf, gpt2;
};

constexpr auto kOutside = std::to_array<NameRow>({{"model.embed_tokens", "token_embd", "transformer.wte"},
                                                  {"model.embed_positions", "position_embd", "transformer.wpe"},
                                                  {"model.norm", "output_norm", "transformer.ln_f"},
                                                  {"lm_head", "output", "lm_head"}});

constexpr auto kInBlock = std::to_array<NameRow>({{"input_layernorm", "attn_norm", "ln_1"},
                                                  {"self_attn.q_proj", "attn_q", "attn.c_attn"},
                                                  {"self_attn.k_proj", "attn_k", "attn.c_attn"},
                                                  {"self_attn.v_proj", "attn_v", "attn.c_attn"},
                                                  {"self_attn.q_norm", "attn_q_norm", ""},
                                                  {"self_attn.k_norm", "attn_k_norm", ""},
                                                  {"self_attn.o_proj", "attn_output", "attn.c_proj"},
                                                  {"post_attention_layernorm", "ffn_norm", "ln_2"},
                                                  {"mlp.gate_proj", "ffn_gate", ""},
                                                  {"mlp.up_proj", "ffn_up", "mlp.c_fc"},
                                                  {"mlp.down_proj", "ffn_down", "mlp.c_proj"}});

constexpr std::string_view kBlockPrefix = "model.layers.";

// "model.layers.3.mlp.up_proj.weight" in its parts; `layer` is empty outside the blocks.
struct Parts {
  std::string_view layer, module, suffix;
};

Parts split(std::string_view name) {
  Parts parts;
  const size_t dot = name.rfind('.');
  parts.suffix = name.substr(dot);  // ".weight"
  name = name.substr(0, dot);
  if (name.starts_with(kBlockPrefix)) {
    name.remove_prefix(kBlockPrefix.size());
    const size_t end = name.find('.');
    parts.layer = name.substr(0, end);
    name.remove_prefix(end + 1);
  }
  parts.module = name;
  return parts;
}

const NameRow& row_of(const Parts& parts) {
  if (parts.layer.empty()) {
    for (const NameRow& row : kOutside) {
      if (row.thimble == parts.module) return row;
    }
  }
  for (const NameRow& row : kInBlock) {
    if (row.thimble == parts.module) return row;
  }
  assert(false && "not a name of tensor_specs()");
  return kOutside[0];
}

int qkv_part(std::string_view module) {
  if (module == "self_attn.q_proj") return 0;
  if (module == "self_attn.k_proj") return 1;
  return module == "self_attn.v_proj" ? 2 : -1;
}

std::string join(std::initializer_list<std::string_view> pieces) {
  std::string out;
  for (std::string_view piece : pieces) out += piece;
  return out;
}

}  // namespace

bool is_q_or_k(std::string_view thimble_name) {
  const std::string_view module = split(thimble_name).module;
  return module == "self_attn.q_proj" || module == "self_attn.k_proj";
}

ForeignName gguf_name(std::string_view thimble_name, bool fused_qkv) {
  const Parts parts = split(thimble_name);
  const NameRow& row = row_of(parts);
  if (parts.layer.empty()) return {join({row.gguf, parts.suffix})};
  const int part = fused_qkv ? qkv_part(parts.module) : -1;
  return {join({"blk.", parts.layer, ".", part >= 0 ? "attn_qkv" : row.gguf, parts.suffix}), part};
}

ForeignName gpt2_name(std::string_view thimble_name) {
  const Parts parts = split(thimble_name);
  const NameRow& row = row_of(parts);
  if (parts.layer.empty()) return {join({row.gpt2, parts.suffix})};
  return {join({"transformer.h.", parts.layer, ".", row.gpt2, parts.suffix}), qkv_part(parts.module)};
}

}  // namespace thimble
