// Gemma 1: gains stored less 1, the embedding times the root of the width, wide heads.
//
//   Source  transformers, models/gemma (Gemma Team 2024, arXiv:2403.08295)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  // "gelu" of the first releases means the approximation, as transformers has it; "hidden_activation" is its new name.
  const bool renamed = f.says("hidden_activation");
  gemma_like(f, a, b,
             {.activation_field = renamed ? "hidden_activation" : "hidden_act", .activation = "gelu_pytorch_tanh"});
  f.harmless({"hidden_act"}, "hidden_activation goes first, and gelu means its tanh form, as in transformers");
  if (f.reads() && b.ffn.activation == Activation::gelu) b.ffn.activation = Activation::gelu_tanh;
  f.rope(a, b);
  f.repeat(a, b);
}

}  // namespace

const Family kGemmaFamily = {.name = "gemma",
                             .model_class = "GemmaForCausalLM",
                             .config = config,
                             .sizes = {.default_kv_heads = 16, .default_head_dim = 256, .default_context = 8192},
                             .gguf = {.architecture = "gemma"}};

}  // namespace thimble
