// Qwen 3: RMS norms of each head of q and k instead of biases.
//
//   Source  transformers, models/qwen3 (Yang et al. 2025, arXiv:2505.09388)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b);
  if (f.reads()) b.attention.qk_norm = a.final_norm;
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  f.rope(a, b);
  f.repeat(a, b);
  qwen_windows(f, a);
}

}  // namespace

const Family kQwen3Family = {.name = "qwen3",
                             .model_class = "Qwen3ForCausalLM",
                             .config = config,
                             .sizes = {.default_kv_heads = 32, .default_head_dim = 128, .default_context = 32768},
                             .gguf = {.architecture = "qwen3"}};

}  // namespace thimble
