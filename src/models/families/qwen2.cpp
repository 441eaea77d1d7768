// Qwen 1.5, 2 and 2.5: biases on q, k and v; windows on request, from some layer on.
//
//   Source  transformers, models/qwen2 (Yang et al. 2024, arXiv:2407.10671)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b);
  if (f.reads()) b.attention.qkv_bias = true;
  f.rope(a, b);
  f.repeat(a, b);
  qwen_windows(f, a);
}

}  // namespace

const Family kQwen2Family = {
    .name = "qwen2",
    .model_class = "Qwen2ForCausalLM",
    .config = config,
    .sizes = {.default_kv_heads = 32, .default_context = 32768},
    .gguf = {.architecture = "qwen2", .tensors = {.head_bias = GgufTensors::either, .any_head_dim = false}}};

}  // namespace thimble
