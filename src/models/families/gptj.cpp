// GPT-J: attention and a plain FFN side by side on one layer norm, rotations of neighbours, a bias on the logits.
//
//   Source  transformers, models/gptj (Wang and Komatsuzaki 2021)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b,
             {.epsilon = 1e-5,
              .norm = {.kind = &kLayer, .bias = true},
              .epsilon_field = "layer_norm_epsilon",
              .activation_field = "activation_function",
              .activation = "gelu_new",
              .ffn = &kPlainFfn});
  int64_t rotated = a.ropes.empty() ? 0 : a.ropes[0].rotated;
  f.field("rotary_dim", rotated, 64);
  f.harmless({"rotary", "scale_attn_weights", "n_ctx", "summary_activation", "summary_first_dropout",
              "summary_proj_to_labels", "summary_type", "summary_use_proj", "gradient_checkpointing"},
             "transformers does not read it, or it is of classifiers");
  if (f.reads()) {
    a.ropes = {{.rotated = rotated, .layout = Rope::Layout::interleaved}};
    b.parallel = true;
    b.before_ffn = {};
    b.ffn.bias = a.head_bias = true;
  }
  f.repeat(a, b);
}

constexpr HfName kNames[] = {
    {"model.embed_tokens", "transformer.wte"}, {"model.norm", "transformer.ln_f"},  {"input_layernorm", "ln_1"},
    {"self_attn.q_proj", "attn.q_proj"},       {"self_attn.k_proj", "attn.k_proj"}, {"self_attn.v_proj", "attn.v_proj"},
    {"self_attn.o_proj", "attn.out_proj"},     {"mlp.up_proj", "mlp.fc_in"},        {"mlp.down_proj", "mlp.fc_out"}};

}  // namespace

const Family kGptjFamily = {.name = "gptj",
                            .model_class = "GPTJForCausalLM",
                            .config = config,
                            .sizes = {.width = "n_embd",
                                      .layers = "n_layer",
                                      .heads = "n_head",
                                      .kv_heads = "",
                                      .head_dim = "",
                                      .ffn = "n_inner",
                                      .context = "n_positions",
                                      .default_ffn = -1},
                            .base = "transformer.",
                            .blocks = "transformer.h.",
                            .names = [](const Architecture&) -> std::span<const HfName> { return kNames; },
                            .buffers = {".attn.bias", ".attn.masked_bias", ".attn.embed_positions"},
                            .rope_layout = Rope::Layout::interleaved};

}  // namespace thimble
