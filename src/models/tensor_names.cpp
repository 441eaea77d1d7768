#include "models/tensor_names.h"

#include <array>
#include <cassert>
#include <charconv>

namespace thimble {
namespace {

struct NameRow {
  std::string_view thimble, gguf;
};

// llama.cpp, gguf-py/gguf/constants.py and tensor_mapping.py.
constexpr auto kOutside = std::to_array<NameRow>({{"model.embed_tokens", "token_embd"},
                                                  {"model.embed_positions", "position_embd"},
                                                  {"model.embed_norm", "token_embd_norm"},
                                                  {"model.norm", "output_norm"},
                                                  {"lm_head", "output"}});

constexpr auto kInBlock = std::to_array<NameRow>({{"input_layernorm", "attn_norm"},
                                                  {"self_attn.q_proj", "attn_q"},
                                                  {"self_attn.k_proj", "attn_k"},
                                                  {"self_attn.v_proj", "attn_v"},
                                                  {"self_attn.q_norm", "attn_q_norm"},
                                                  {"self_attn.k_norm", "attn_k_norm"},
                                                  {"self_attn.o_proj", "attn_output"},
                                                  {"post_self_attn_layernorm", "post_attention_norm"},
                                                  {"post_attention_layernorm", "ffn_norm"},
                                                  {"mlp.gate_proj", "ffn_gate"},
                                                  {"mlp.up_proj", "ffn_up"},
                                                  {"mlp.down_proj", "ffn_down"},
                                                  {"post_mlp_layernorm", "post_ffw_norm"}});

constexpr std::string_view kBlockPrefix = "model.layers.";

template <size_t N>
std::string_view gguf_of(const std::array<NameRow, N>& rows, std::string_view module) {
  for (const NameRow& row : rows)
    if (row.thimble == module) return row.gguf;
  assert(false && "not a name of tensor_specs()");
  return rows[0].gguf;
}

}  // namespace

NameParts split_name(std::string_view name) {
  NameParts parts;
  const size_t dot = name.rfind('.');
  parts.suffix = name.substr(dot);
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

size_t block_of(std::string_view name) {
  const std::string_view layer = split_name(name).layer;
  size_t block = 0;
  std::from_chars(layer.data(), layer.data() + layer.size(), block);
  return block;
}

bool is_q_or_k(std::string_view name) {
  const std::string_view module = split_name(name).module;
  return module == "self_attn.q_proj" || module == "self_attn.k_proj";
}

int64_t head_dim_of(const Architecture& architecture, std::string_view name) {
  return split_name(name).layer.empty() ? 0 : architecture.blocks[block_of(name)].attention.head_dim;
}

std::string gguf_name(std::string_view name) {
  const NameParts parts = split_name(name);
  if (parts.layer.empty()) return fmt::format("{}{}", gguf_of(kOutside, parts.module), parts.suffix);
  return fmt::format("blk.{}.{}{}", parts.layer, gguf_of(kInBlock, parts.module), parts.suffix);
}

}  // namespace thimble
