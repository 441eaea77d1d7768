// Llama 1 to 3, SmolLM, TinyLlama, Yi and others of their shape.
//
//   Source  transformers, models/llama (Touvron et al. 2023, arXiv:2302.13971)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b);
  f.rope(a, b);
  if (f.reads()) f.only("rope_interleaved", false);  // nanotron's
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  f.field("mlp_bias", b.ffn.bias, false);
  f.repeat(a, b);
}

}  // namespace

const Family kLlamaFamily = {.name = "llama",
                             .model_class = "LlamaForCausalLM",
                             .config = config,
                             .gguf = {.architecture = "llama", .pairs = true, .tensors = kLlamaTensors}};

}  // namespace thimble
