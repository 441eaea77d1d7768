// StableLM 2 and 3B: Llama with layer norms, a quarter of a head turns.
//
//   Source  transformers, models/stablelm (Bellagente et al. 2024, arXiv:2402.17834)
#include <nlohmann/json.hpp>

#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.epsilon = 1e-5, .norm = {.kind = &kLayer, .bias = true}, .epsilon_field = "layer_norm_eps"});
  f.field("use_qkv_bias", b.attention.qkv_bias, false);
  f.field("use_parallel_residual", b.parallel, false);
  f.only("qk_layernorm", false);
  if (f.reads() && b.parallel) b.before_ffn = {};
  f.rope(a, b, {.partial = 0.25, .partial_field = kPartialRotary});
  f.repeat(a, b);
}

void from_tensors(const GgufFile& gguf, int64_t, Json& config) {
  config["use_parallel_residual"] = gguf.find_tensor("blk.0.ffn_norm.weight") == nullptr;
  config["use_qkv_bias"] = gguf.find_tensor("blk.0.attn_q.bias") != nullptr;
}

}  // namespace

const Family kStablelmFamily = {.name = "stablelm",
                                .model_class = "StableLmForCausalLM",
                                .config = config,
                                .sizes = {.head_dim = "", .default_kv_heads = 32, .default_context = 4096},
                                .gguf = {.architecture = "stablelm",
                                         .tensors = {.head = GgufTensors::always, .any_head_dim = false},
                                         .from_tensors = from_tensors}};

}  // namespace thimble
