// Gemma 2: norms before and behind both sublayers, capped scores and logits, every second layer with a window.
//
//   Source  transformers, models/gemma2 (Gemma Team 2024, arXiv:2408.00118)
#include <cmath>

#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  gemma_like(f, a, b, {.activation_field = "hidden_activation", .activation = "gelu_pytorch_tanh"});
  if (f.reads()) b.after_mixer = b.after_ffn = a.final_norm;
  gemma_attention(f, a, b, {.score_cap = 50, .logit_cap = 30});
  f.rope(a, b);
  f.repeat(a, b);
  f.windows(a, 4096, [](int64_t layer) { return layer % 2 == 0; });
}

constexpr HfName kNames[] = {{"post_self_attn_layernorm", "post_attention_layernorm"},
                             {"post_attention_layernorm", "pre_feedforward_layernorm"},
                             {"post_mlp_layernorm", "post_feedforward_layernorm"}};

constexpr GgufField kFields[] = {{"attention.sliding_window", "sliding_window"},
                                 {"attn_logit_softcapping", "attn_logit_softcapping"},
                                 {"final_logit_softcapping", "final_logit_softcapping"}};

// llama.cpp scales scores by the root of a head's width, but in the largest model, of 46 layers.
void from_tensors(const GgufFile&, int64_t head_dim, Json& config) {
  const int64_t heads = config["num_attention_heads"].get<int64_t>();
  const bool largest = config["num_hidden_layers"].get<int64_t>() == 46;
  config["query_pre_attn_scalar"] = largest && heads > 0 ? config["hidden_size"].get<int64_t>() / heads : head_dim;
}

}  // namespace

const Family kGemma2Family = {.name = "gemma2",
                              .model_class = "Gemma2ForCausalLM",
                              .config = config,
                              .sizes = {.default_kv_heads = 4, .default_head_dim = 256, .default_context = 8192},
                              .names = [](const Architecture&) -> std::span<const HfName> { return kNames; },
                              .gguf = {.architecture = "gemma2", .fields = kFields, .from_tensors = from_tensors}};

}  // namespace thimble
