// StarCoder 2: layer norms, a plain FFN, biases, a window.
//
//   Source  transformers, models/starcoder2 (Lozhkov et al. 2024, arXiv:2402.19173)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b,
             {.epsilon = 1e-5,
              .norm = {.kind = &kLayer, .bias = true},
              .epsilon_field = "norm_epsilon",
              .activation = "gelu_pytorch_tanh",
              .ffn = &kPlainFfn,
              .tied = true});
  f.field("use_bias", b.ffn.bias, true);
  b.attention.qkv_bias = b.attention.output_bias = b.ffn.bias;
  f.rope(a, b);
  f.harmless({"norm_type", "mlp_type", "activation_function"}, "transformers does not read it");
  f.repeat(a, b);
  f.window(a, 0);
}

constexpr HfName kNames[] = {{"mlp.up_proj", "mlp.c_fc"}, {"mlp.down_proj", "mlp.c_proj"}};

constexpr GgufField kFields[] = {{"attention.sliding_window", "sliding_window"}};

}  // namespace

const Family kStarcoder2Family = {
    .name = "starcoder2",
    .model_class = "Starcoder2ForCausalLM",
    .config = config,
    .sizes = {.head_dim = "", .default_kv_heads = 2, .default_context = 4096},
    .names = [](const Architecture&) -> std::span<const HfName> { return kNames; },
    .gguf = {.architecture = "starcoder2",
             .fields = kFields,
             .tensors = {.output_bias = GgufTensors::always, .ffn_bias = GgufTensors::always, .any_head_dim = false},
             .ignores_window = true}};

}  // namespace thimble
