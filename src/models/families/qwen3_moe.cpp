// Qwen 3 with mixtures of experts: RMS norms of each head of q and k; some layers may have a plain FFN.
//
//   Source  transformers, models/qwen3_moe (Yang et al. 2025, arXiv:2505.09388)
#include <algorithm>

#include "models/families.h"
#include "models/router.h"

namespace thimble {
namespace {

const Block* find_block(const Architecture& a, bool routed) {
  const auto found = std::ranges::find_if(a.blocks, [&](const Block& b) { return bool(b.ffn.routing) == routed; });
  return found == a.blocks.end() ? nullptr : &*found;
}

// Which blocks are routed: every `decoder_sparse_step`th that is not among "mlp_only_layers". All is written by the
// latter.
void routing(HfFields& f, Architecture& a) {
  const Block* const any = find_block(a, true);
  FeedForward experts = any ? any->ffn : first_block(a).ffn;
  f.field("moe_intermediate_size", experts.width, 768);
  // transformers 5 writes another name than its older versions.
  const bool local = f.says("num_local_experts") && !f.says("num_experts");
  routed(f, experts.routing,
         {.experts = local ? "num_local_experts" : "num_experts", .default_experts = 128, .default_chosen = 8});
  int64_t step = 1;
  f.field("decoder_sparse_step", step, 1);
  std::vector<int64_t> plain;
  for (int64_t i = 0; !f.reads() && i < a.layers(); ++i)
    if (!a.blocks[static_cast<size_t>(i)].ffn.routing) plain.push_back(i);
  f.field("mlp_only_layers", plain, {});
  if (!f.reads() || experts.routing.experts == 0) return;
  for (int64_t i = 0; i < a.layers(); ++i)
    if ((i + 1) % std::max<int64_t>(1, step) == 0 && std::ranges::find(plain, i) == plain.end())
      a.blocks[static_cast<size_t>(i)].ffn = experts;
}

// One for all layers, on request.
void window(HfFields& f, Architecture& a) {
  bool use = std::ranges::any_of(a.blocks, [](const Block& b) { return b.attention.window > 0; });
  f.field("use_sliding_window", use, false);
  f.window(a, 4096);
  f.harmless({"max_window_layers"}, "this family has one window for all layers");
  for (Block& block : a.blocks)
    if (!use) block.attention.window = 0;
}

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  if (const Block* const plain = find_block(a, false)) b.ffn = plain->ffn;
  b.ffn.routing = {};
  llama_like(f, a, b);
  if (f.reads()) b.attention.qk_norm = a.final_norm;
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  f.rope(a, b);
  f.repeat(a, b);
  window(f, a);
  routing(f, a);
}

}  // namespace

const Family kQwen3MoeFamily = {.name = "qwen3_moe",
                                .model_class = "Qwen3MoeForCausalLM",
                                .config = config,
                                .sizes = {.default_kv_heads = 4, .default_context = 32768},
                                .names = router_names};

}  // namespace thimble
