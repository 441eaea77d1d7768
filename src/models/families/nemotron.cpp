// Nemotron 4 and Minitron: layer norms whose gains are stored less 1, a plain FFN with squared ReLU, half of a head
// turns.
//
//   Source  transformers, models/nemotron (Parmar et al. 2024, arXiv:2402.16819)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b,
             {.epsilon = 1e-5,
              .norm = {.kind = &kLayer, .bias = true, .offset = 1},
              .epsilon_field = "norm_eps",
              .activation = "relu2",
              .ffn = &kPlainFfn});
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  f.field("mlp_bias", b.ffn.bias, false);
  f.rope(a, b, {.partial = 0.5, .partial_field = kPartialRotary});
  f.repeat(a, b);
}

}  // namespace

const Family kNemotronFamily = {.name = "nemotron",
                                .model_class = "NemotronForCausalLM",
                                .config = config,
                                .sizes = {.default_context = 4096},
                                .gguf = {.architecture = "nemotron",
                                         .tensors = {.head = GgufTensors::always,
                                                     .output_bias = GgufTensors::either,
                                                     .ffn_bias = GgufTensors::either,
                                                     .any_head_dim = false}}};

}  // namespace thimble
