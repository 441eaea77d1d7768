// Mixtral: Mistral with a mixture of experts, two a token.
//
//   Source  transformers, models/mixtral (Jiang et al. 2024, arXiv:2401.04088)
#include "models/families.h"
#include "models/router.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.epsilon = 1e-5});
  Routing& r = b.ffn.routing;
  f.field("num_local_experts", r.experts, 8);
  f.field("num_experts_per_tok", r.chosen, 2);
  if (f.reads()) r.router = &kTopKRouter;
  router_training(f);
  f.rope(a, b, {.base = 1e6});
  f.repeat(a, b);
  f.window(a, 0);
}

std::span<const HfName> names(const Architecture&) {
  static constexpr HfName kNames[] = {{"mlp.router", "block_sparse_moe.gate"},
                                      {"mlp.experts.*.gate_proj", "block_sparse_moe.experts.*.w1"},
                                      {"mlp.experts.*.up_proj", "block_sparse_moe.experts.*.w3"},
                                      {"mlp.experts.*.down_proj", "block_sparse_moe.experts.*.w2"}};
  return kNames;
}

}  // namespace

const Family kMixtralFamily = {.name = "mixtral",
                               .model_class = "MixtralForCausalLM",
                               .config = config,
                               .sizes = {.default_kv_heads = 8, .default_context = 131072},
                               .names = names};

}  // namespace thimble
