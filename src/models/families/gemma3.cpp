// Gemma 3, text: Gemma 2 with norms of q and k in place of caps, five layers with a window to one without, each kind
// with a rope of its own.
//
//   Source  transformers, models/gemma3 (Gemma Team 2025, arXiv:2503.19786)
#include <nlohmann/json.hpp>

#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  gemma_like(f, a, b, {.activation_field = "hidden_activation", .activation = "gelu_pytorch_tanh"});
  if (f.reads()) b.after_mixer = b.after_ffn = b.attention.qk_norm = a.final_norm;
  gemma_attention(f, a, b, {.caps_scores = false});
  f.rope(a, b, {.base = 1000000, .layer_type = "full_attention"}, 0);
  f.rope(a, b, {.base = 10000, .layer_type = "sliding_attention", .base_field = "rope_local_base_freq"}, 1);
  f.repeat(a, b);
  int64_t period = 6;
  if (f.reads()) f.field("sliding_window_pattern", period, 6);
  f.harmless({"_sliding_window_pattern"}, "transformers reads sliding_window_pattern and layer_types alone");
  f.harmless({"attn_logit_softcapping"}, "attention of Gemma 3 does not read it");
  f.windows(a, 4096, [period](int64_t layer) { return (layer + 1) % std::max<int64_t>(1, period) != 0; });
  if (f.reads())
    for (Block& block : a.blocks) block.attention.rope = block.attention.window > 0 ? 1 : 0;
}

constexpr GgufField kFields[] = {{"attention.sliding_window", "sliding_window"}};

// Without a key for it llama.cpp has no windows, and one rope.
void from_tensors(const GgufFile& gguf, int64_t head_dim, Json& config) {
  gemma_scale(head_dim, 62, config);
  if (!gguf.find_value("gemma3.attention.sliding_window"))
    config["layer_types"] = std::vector<std::string>(config["num_hidden_layers"].get<size_t>(), "full_attention");
}

}  // namespace

const Family kGemma3Family = {.name = "gemma3_text",
                              .model_class = "Gemma3ForCausalLM",
                              .config = config,
                              .sizes = {.default_kv_heads = 4, .default_head_dim = 256, .default_context = 131072},
                              .names = gemma_names,
                              .scales_rows = true,
                              .gguf = {.architecture = "gemma3",
                                       .fields = kFields,
                                       .local_rope = true,
                                       .local_rope_base = 10000,
                                       .local_base = GgufFamily::LocalBase::read,
                                       .from_tensors = from_tensors}};

}  // namespace thimble
