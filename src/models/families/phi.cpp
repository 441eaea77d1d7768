// Phi 1, 1.5 and 2: attention and a plain FFN side by side on one layer norm, biases everywhere, half of a head turns.
//
//   Source  transformers, models/phi (Li et al. 2023, arXiv:2309.05463)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b,
             {.epsilon = 1e-5,
              .norm = {.kind = &kLayer, .bias = true},
              .epsilon_field = "layer_norm_eps",
              .activation = "gelu_new",
              .ffn = &kPlainFfn});
  bool qk_norm = bool(b.attention.qk_norm);
  f.field("qk_layernorm", qk_norm, false);
  if (f.reads()) {
    b.parallel = true;
    b.before_ffn = {};
    b.attention.qkv_bias = b.attention.output_bias = b.ffn.bias = a.head_bias = true;
    if (qk_norm) b.attention.qk_norm = a.final_norm;
  }
  f.rope(a, b, {.partial = 0.5, .partial_field = kPartialRotary});
  f.repeat(a, b);
}

constexpr HfName kNames[] = {{"model.norm", "model.final_layernorm"},
                             {"self_attn.o_proj", "self_attn.dense"},
                             {"self_attn.q_norm", "self_attn.q_layernorm"},
                             {"self_attn.k_norm", "self_attn.k_layernorm"},
                             {"mlp.up_proj", "mlp.fc1"},
                             {"mlp.down_proj", "mlp.fc2"}};

}  // namespace

const Family kPhiFamily = {.name = "phi",
                           .model_class = "PhiForCausalLM",
                           .config = config,
                           .sizes = {.head_dim = ""},
                           .names = [](const Architecture&) -> std::span<const HfName> { return kNames; },
                           .gguf = {.architecture = "phi2",
                                    .tensors = {.head = GgufTensors::always,
                                                .head_bias = GgufTensors::always,
                                                .output_bias = GgufTensors::always,
                                                .ffn_bias = GgufTensors::always,
                                                .any_head_dim = false}}};

}  // namespace thimble
