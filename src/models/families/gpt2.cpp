// GPT-2: layer norms, learned positions, a plain FFN; q, k and v in one matrix, matrices stored [in, out].
//
//   Source  transformers, models/gpt2 (Radford et al. 2019)
#include <cmath>

#include "models/families.h"

namespace thimble {
namespace {

// Scores are divided by the root of the head's width, by the block's number, by both or by nothing.
void scales(HfFields& f, Architecture& a) {
  const auto scale_of = [&](size_t i) { return i < a.blocks.size() ? a.blocks[i].attention.scale : 0; };
  bool by_width = scale_of(0) != 1, by_number = scale_of(1) != scale_of(0);
  f.field("scale_attn_weights", by_width, true);
  f.field("scale_attn_by_inverse_layer_idx", by_number, false);
  if (!f.reads() || (by_width && !by_number)) return;
  for (size_t i = 0; i < a.blocks.size(); ++i) {
    Attention& attention = a.blocks[i].attention;
    const double width = by_width ? std::sqrt(static_cast<double>(attention.head_dim)) : 1;
    attention.scale = 1 / (width * (by_number ? static_cast<double>(i + 1) : 1));
  }
}

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b,
             {.epsilon = 1e-5,
              .norm = {.kind = &kLayer, .bias = true},
              .epsilon_field = "layer_norm_epsilon",
              .activation_field = "activation_function",
              .activation = "gelu_new",
              .ffn = &kPlainFfn,
              .tied = true});
  f.only("add_cross_attention", false);
  f.harmless({"reorder_and_upcast_attn", "summary_activation", "summary_first_dropout", "summary_proj_to_labels",
              "summary_type", "summary_use_proj"},
             "it is of classifiers, or chooses how to compute the same");
  b.attention.qkv_bias = b.attention.output_bias = b.ffn.bias = true;
  b.attention.rope = -1;
  a.learned_positions = a.context;
  f.repeat(a, b);
  scales(f, a);
}

constexpr HfName kNames[] = {{"model.embed_tokens", "transformer.wte"},
                             {"model.embed_positions", "transformer.wpe"},
                             {"model.norm", "transformer.ln_f"},
                             {"input_layernorm", "ln_1"},
                             {"self_attn.q_proj", "attn.c_attn", HfName::Fusion::stacked},
                             {"self_attn.k_proj", "attn.c_attn", HfName::Fusion::stacked},
                             {"self_attn.v_proj", "attn.c_attn", HfName::Fusion::stacked},
                             {"self_attn.o_proj", "attn.c_proj"},
                             {"post_attention_layernorm", "ln_2"},
                             {"mlp.up_proj", "mlp.c_fc"},
                             {"mlp.down_proj", "mlp.c_proj"}};

}  // namespace

const Family kGpt2Family = {.name = "gpt2",
                            .model_class = "GPT2LMHeadModel",
                            .config = config,
                            .sizes = {.width = "n_embd",
                                      .layers = "n_layer",
                                      .heads = "n_head",
                                      .kv_heads = "",
                                      .head_dim = "",
                                      .ffn = "n_inner",
                                      .context = "n_positions",
                                      .other_context = "n_ctx",
                                      .default_ffn = -1,
                                      .default_context = 1024},
                            .base = "transformer.",
                            .blocks = "transformer.h.",
                            .names = [](const Architecture&) -> std::span<const HfName> { return kNames; },
                            .transposed = true,
                            .buffers = {".attn.bias", ".attn.masked_bias"},
                            .gguf = {.architecture = "gpt2", .fused_qkv = true, .tensors = kBiasedTensors}};

}  // namespace thimble
