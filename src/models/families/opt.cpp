// OPT: layer norms, learned positions from row 2 on; the smallest but one has its norms behind the residual sums, and
// an embedding narrower than the model.
//
//   Source  transformers, models/opt (Zhang et al. 2022, arXiv:2205.01068)
#include "models/families.h"

namespace thimble {
namespace {

constexpr int64_t kFirstPosition = 2;

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  // A model without a final norm has norms in its blocks all the same.
  Norm norm = b.before_mixer ? b.before_mixer : b.after_mixer;
  llama_like(f, a, b,
             {.epsilon = 1e-5,
              .norm = {.kind = &kLayer, .bias = true},
              .epsilon_field = "",
              .activation_field = "activation_function",
              .activation = "relu",
              .ffn = &kPlainFfn,
              .tied = true});
  bool before = bool(b.before_mixer), no_final = !a.final_norm;
  f.field("do_layer_norm_before", before, true);
  f.field("_remove_final_layer_norm", no_final, false);
  f.field("enable_bias", b.ffn.bias, true);
  b.attention.qkv_bias = b.attention.output_bias = b.ffn.bias;
  f.field("layer_norm_elementwise_affine", norm.gain, true);
  if (f.reads()) norm = {.kind = &kLayer, .gain = norm.gain, .bias = norm.gain};
  int64_t embedding = a.embedding_width > 0 ? a.embedding_width : a.width;
  f.field("word_embed_proj_dim", embedding, a.width);
  if (f.reads()) {
    b.before_mixer = b.before_ffn = b.after_mixer = b.after_ffn = {};
    (before ? b.before_mixer : b.after_mixer) = norm;
    (before ? b.before_ffn : b.after_ffn) = norm;
    b.norm_after_sum = !before;
    a.final_norm = before && !no_final ? norm : Norm{};
    b.attention.rope = -1;
    a.learned_positions = a.context + kFirstPosition;
    a.first_position = kFirstPosition;
    a.embedding_width = embedding == a.width ? 0 : embedding;
  }
  f.harmless({"dropout", "layerdrop", "init_std", "prefix"}, "it is of training or initialisation");
  f.repeat(a, b);
}

constexpr HfName kNames[] = {{"model.embed_tokens", "model.decoder.embed_tokens"},
                             {"model.embed_positions", "model.decoder.embed_positions"},
                             {"model.norm", "model.decoder.final_layer_norm"},
                             {"model.project_in", "model.decoder.project_in"},
                             {"model.project_out", "model.decoder.project_out"},
                             {"input_layernorm", "self_attn_layer_norm"},
                             {"post_self_attn_layernorm", "self_attn_layer_norm"},
                             {"self_attn.o_proj", "self_attn.out_proj"},
                             {"post_attention_layernorm", "final_layer_norm"},
                             {"post_mlp_layernorm", "final_layer_norm"},
                             {"mlp.up_proj", "fc1"},
                             {"mlp.down_proj", "fc2"}};

}  // namespace

const Family kOptFamily = {.name = "opt",
                           .model_class = "OPTForCausalLM",
                           .config = config,
                           .sizes = {.kv_heads = "", .head_dim = "", .ffn = "ffn_dim"},
                           .blocks = "model.decoder.layers.",
                           .names = [](const Architecture&) -> std::span<const HfName> { return kNames; }};

}  // namespace thimble
