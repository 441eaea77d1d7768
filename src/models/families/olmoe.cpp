// OLMoE: Llama with norms over all of q and k, and a mixture of many small experts.
//
//   Source  transformers, models/olmoe (Muennighoff et al. 2024, arXiv:2409.02060)
#include "models/families.h"
#include "models/router.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.epsilon = 1e-5});
  if (f.reads()) b.attention.qk_norm = a.final_norm, b.attention.qk_norm_over = Attention::NormOver::row;
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  if (f.says("clip_qkv")) f.refuse("'clip_qkv' is set; this family is supported without it");
  f.harmless({"clip_qkv"}, "it is not set");
  routed(f, b.ffn.routing, {.default_experts = 64, .default_chosen = 8});
  f.rope(a, b);
  f.repeat(a, b);
}

}  // namespace

const Family kOlmoeFamily = {.name = "olmoe",
                             .model_class = "OlmoeForCausalLM",
                             .config = config,
                             .sizes = {.default_context = 4096},
                             .names = router_names};

}  // namespace thimble
