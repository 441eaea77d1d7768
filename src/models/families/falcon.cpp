// Falcon: 7B (one key head, both sublayers on one norm), 40B and 180B (key heads in groups, a norm for each), RW
// (ALiBi, one sublayer after the other).
//
//   Source  transformers, models/falcon (Almazrouei et al. 2023, arXiv:2311.16867)
#include <nlohmann/json.hpp>

#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b,
             {.epsilon = 1e-5,
              .norm = {.kind = &kLayer, .bias = true},
              .epsilon_field = "layer_norm_epsilon",
              .activation_field = "activation",
              .activation = "gelu",
              .ffn = &kPlainFfn,
              .tied = true});
  bool grouped = b.parallel && b.before_ffn, one_key_head = !grouped && b.attention.kv_heads == 1;
  bool alibi = b.attention.bias != Attention::Bias::none;
  int64_t norms = b.before_ffn ? 2 : 1;
  f.field("new_decoder_architecture", grouped, false);
  f.field("multi_query", one_key_head, true);
  f.field("parallel_attn", b.parallel, true);
  f.field("alibi", alibi, false);
  f.field("bias", b.ffn.bias, false);
  b.attention.qkv_bias = b.attention.output_bias = b.ffn.bias;
  if (grouped) f.field("num_ln_in_parallel_attn", norms, 2);
  f.harmless({"num_ln_in_parallel_attn"}, "only the new architecture has it");
  if (f.reads()) {
    if (!grouped && !one_key_head && f.says("num_kv_heads") && b.attention.kv_heads != b.attention.heads)
      f.refuse(
          "'num_kv_heads' differs from 'num_attention_heads' with 'multi_query' false, which "
          "'new_decoder_architecture' "
          "alone can have");
    if (!grouped) b.attention.kv_heads = one_key_head ? 1 : b.attention.heads;
    b.parallel |= grouped;
    if (b.parallel && !(grouped && norms == 2)) b.before_ffn = {};
    if (alibi) b.attention.rope = -1, b.attention.bias = Attention::Bias::alibi_bf16;
  }
  if (!alibi) f.rope(a, b);
  if (alibi) f.harmless({"rope_theta", "rope_scaling", "rope_parameters"}, "positions come from ALiBi");
  f.repeat(a, b);
}

constexpr HfName kNames[] = {{"model.embed_tokens", "transformer.word_embeddings"},
                             {"model.norm", "transformer.ln_f"},
                             {"self_attn.q_proj", "self_attention.query_key_value", HfName::Fusion::by_head},
                             {"self_attn.k_proj", "self_attention.query_key_value", HfName::Fusion::by_head},
                             {"self_attn.v_proj", "self_attention.query_key_value", HfName::Fusion::by_head},
                             {"self_attn.o_proj", "self_attention.dense"},
                             {"mlp.up_proj", "mlp.dense_h_to_4h"},
                             {"mlp.down_proj", "mlp.dense_4h_to_h"},
                             {"input_layernorm", "ln_attn"},
                             {"post_attention_layernorm", "ln_mlp"}};

// The last two are of a model with a norm for each sublayer.
std::span<const HfName> names(const Architecture& a) {
  const Block b = first_block(a);
  return std::span(kNames).first(std::size(kNames) - (b.parallel && b.before_ffn ? 0 : 2));
}

void from_tensors(const GgufFile& gguf, int64_t, Json& config) {
  const bool two_norms = gguf.find_tensor("blk.0.attn_norm_2.weight") != nullptr;
  config["new_decoder_architecture"] = two_norms;
  config["multi_query"] = config["num_kv_heads"] == 1;
}

constexpr HfName kGgufNames[] = {{"input_layernorm", "attn_norm_2"}, {"post_attention_layernorm", "attn_norm"}};
std::span<const HfName> gguf_names(const Architecture& a) {
  const Block b = first_block(a);
  return std::span(kGgufNames).first(b.parallel && b.before_ffn ? 2 : 0);
}

}  // namespace

const Family kFalconFamily = {.name = "falcon",
                              .model_class = "FalconForCausalLM",
                              .config = config,
                              .sizes = {.other_width = "n_embed",
                                        .layers = "num_hidden_layers",
                                        .heads = "num_attention_heads",
                                        .kv_heads = "num_kv_heads",
                                        .head_dim = "",
                                        .ffn = "ffn_hidden_size",
                                        .default_ffn = -1},
                              .base = "transformer.",
                              .blocks = "transformer.h.",
                              .names = names,
                              .gguf = {.architecture = "falcon",
                                       .fused_qkv = true,
                                       .tensors = {.qkv_bias = GgufTensors::never, .any_head_dim = false},
                                       .from_tensors = from_tensors,
                                       .names = gguf_names}};

}  // namespace thimble
