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

constexpr GgufField kFields[] = {{"attention.sliding_window", "sliding_window"},
                                 {"attn_logit_softcapping", "attn_logit_softcapping"},
                                 {"final_logit_softcapping", "final_logit_softcapping"}};

void from_tensors(const GgufFile&, int64_t head_dim, Json& config) { gemma_scale(head_dim, 46, config); }

}  // namespace

const Family kGemma2Family = {.name = "gemma2",
                              .model_class = "Gemma2ForCausalLM",
                              .config = config,
                              .sizes = {.default_kv_heads = 4, .default_head_dim = 256, .default_context = 8192},
                              .names = gemma_names,
                              .scales_rows = true,
                              .gguf = {.architecture = "gemma2",
                                       .fields = kFields,
                                       .tensors = {.head = GgufTensors::never},
                                       .local_base = GgufFamily::LocalBase::refused,
                                       .from_tensors = from_tensors}};

}  // namespace thimble
