// Gemma 1: gains stored less 1, the embedding times the root of the width, wide heads.
//
//   Source  transformers, models/gemma (Gemma Team 2024, arXiv:2403.08295)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  // "gelu" of the first releases means the approximation, as transformers has it.
  gemma_like(f, a, b, {.activation = "gelu_pytorch_tanh"});
  if (f.reads() && b.ffn.activation == Activation::gelu) b.ffn.activation = Activation::gelu_tanh;
  // Another value of it is warned of, as any field that the family does not have.
  const std::string tanh_form = "gelu_pytorch_tanh";
  if (f.says("hidden_activation") && f.source().get_or<std::string>("hidden_activation", "") == tanh_form)
    f.harmless({"hidden_activation"}, "transformers reads hidden_act alone");
  f.rope(a, b);
  f.repeat(a, b);
}

}  // namespace

const Family kGemmaFamily = {.name = "gemma",
                             .model_class = "GemmaForCausalLM",
                             .config = config,
                             .sizes = {.default_kv_heads = 16, .default_head_dim = 256, .default_context = 8192},
                             .scales_rows = true,
                             .gguf = {.architecture = "gemma", .tensors = {.head = GgufTensors::never}}};

}  // namespace thimble
