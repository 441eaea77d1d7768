// GPT-NeoX, Pythia: attention and a plain FFN side by side, each on its own layer norm; a quarter of a head turns.
//
//   Source  transformers, models/gpt_neox (Black et al. 2022, arXiv:2204.06745)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b,
             {.epsilon = 1e-5,
              .norm = {.kind = &kLayer, .bias = true},
              .epsilon_field = "layer_norm_eps",
              .activation = "gelu",
              .ffn = &kPlainFfn});
  f.field("use_parallel_residual", b.parallel, true);
  f.field("attention_bias", b.attention.qkv_bias, true);
  b.attention.output_bias = b.attention.qkv_bias;
  b.ffn.bias = true;
  f.rope(a, b, {.partial = 0.25, .base_field = "rotary_emb_base", .partial_field = "rotary_pct"});
  f.harmless({"classifier_dropout"}, "it is of classifiers");
  f.repeat(a, b);
}

constexpr HfName kNames[] = {{"model.embed_tokens", "gpt_neox.embed_in"},
                             {"model.norm", "gpt_neox.final_layer_norm"},
                             {"lm_head", "embed_out"},
                             {"self_attn.q_proj", "attention.query_key_value", HfName::Fusion::by_head},
                             {"self_attn.k_proj", "attention.query_key_value", HfName::Fusion::by_head},
                             {"self_attn.v_proj", "attention.query_key_value", HfName::Fusion::by_head},
                             {"self_attn.o_proj", "attention.dense"},
                             {"mlp.up_proj", "mlp.dense_h_to_4h"},
                             {"mlp.down_proj", "mlp.dense_4h_to_h"}};

constexpr GgufField kFields[] = {{"use_parallel_residual", "use_parallel_residual"}};

}  // namespace

const Family kGptNeoxFamily = {.name = "gpt_neox",
                               .model_class = "GPTNeoXForCausalLM",
                               .config = config,
                               .sizes = {.kv_heads = "", .head_dim = ""},
                               .base = "gpt_neox.",
                               .blocks = "gpt_neox.layers.",
                               .names = [](const Architecture&) -> std::span<const HfName> { return kNames; },
                               .buffers = {".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"},
                               .gguf = {.architecture = "gptneox",
                                        .fused_qkv = true,
                                        .fields = kFields,
                                        .tensors = {.head = GgufTensors::always,
                                                    .qkv_bias = GgufTensors::always,
                                                    .output_bias = GgufTensors::always,
                                                    .ffn_bias = GgufTensors::always,
                                                    .any_head_dim = false}}};

}  // namespace thimble
