// BLOOM: ALiBi instead of rotations, a norm of the embedding.
//
//   Source  transformers, models/bloom (Le Scao et al. 2022, arXiv:2211.05100)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b,
             {.epsilon = 1e-5,
              .norm = {.kind = &kLayer, .bias = true},
              .epsilon_field = "layer_norm_epsilon",
              .activation_field = "",
              .activation = "gelu_new",
              .ffn = &kPlainFfn,
              .tied = true});
  f.field("apply_residual_connection_post_layernorm", b.residual_of_norm, false);
  if (f.reads() && f.source().get_or<bool>("slow_but_exact", false).value_or(false) &&
      f.source().get_or<int64_t>("pretraining_tp", 1).value_or(1) > 1)
    f.refuse(
        "'slow_but_exact' with a 'pretraining_tp' above 1: transformers leaves out biases of output matrices there");
  f.harmless({"slow_but_exact", "offset_alibi", "skip_bias_add", "skip_bias_add_qkv", "attention_softmax_in_fp32",
              "bias_dropout_fusion", "masked_softmax_fusion", "unk_token_id"},
             "it chooses between ways to compute the same");
  if (f.reads()) {
    b.attention.qkv_bias = b.attention.output_bias = b.ffn.bias = true;
    b.attention.rope = -1;
    b.attention.bias = Attention::Bias::alibi;
    a.embedding_norm = a.final_norm;
  }
  f.repeat(a, b);
}

constexpr HfName kNames[] = {{"model.embed_tokens", "transformer.word_embeddings"},
                             {"model.embed_norm", "transformer.word_embeddings_layernorm"},
                             {"model.norm", "transformer.ln_f"},
                             {"self_attn.q_proj", "self_attention.query_key_value", HfName::Fusion::by_head},
                             {"self_attn.k_proj", "self_attention.query_key_value", HfName::Fusion::by_head},
                             {"self_attn.v_proj", "self_attention.query_key_value", HfName::Fusion::by_head},
                             {"self_attn.o_proj", "self_attention.dense"},
                             {"mlp.up_proj", "mlp.dense_h_to_4h"},
                             {"mlp.down_proj", "mlp.dense_4h_to_h"}};

}  // namespace

const Family kBloomFamily = {.name = "bloom",
                             .model_class = "BloomForCausalLM",
                             .config = config,
                             .sizes = {.other_width = "n_embed",
                                       .layers = "n_layer",
                                       .heads = "n_head",
                                       .kv_heads = "",
                                       .head_dim = "",
                                       .ffn = "",
                                       .context = "seq_length",
                                       .default_ffn = -1},
                             .base = "transformer.",
                             .blocks = "transformer.h.",
                             .names = [](const Architecture&) -> std::span<const HfName> { return kNames; },
                             .gguf = {.architecture = "bloom", .fused_qkv = true, .tensors = kBiasedTensors}};

}  // namespace thimble
