// SmolLM 3: Llama, every fourth layer without positions.
//
//   Source  transformers, models/smollm3; Kazemnejad et al. 2023, arXiv:2305.19466 (NoPE)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.tied = true});
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  f.field("mlp_bias", b.ffn.bias, false);
  f.rope(a, b, {.base = 2000000});
  f.repeat(a, b);
  int64_t interval = 4;
  f.field("no_rope_layer_interval", interval, 4);
  std::vector<int64_t> rope;  // despite the name, 1 where there is one
  for (const Block& block : a.blocks) rope.push_back(block.attention.rope >= 0);
  f.field("no_rope_layers", rope, {});
  if (f.reads() && !rope.empty() && rope.size() != a.blocks.size())
    f.refuse(fmt::format("'no_rope_layers' names {} layers of {}", rope.size(), a.blocks.size()));
  for (size_t i = 0; f.reads() && f.result() && i < a.blocks.size(); ++i) {
    const bool turns = rope.empty() ? static_cast<int64_t>(i + 1) % std::max<int64_t>(1, interval) != 0 : rope[i] != 0;
    a.blocks[i].attention.rope = turns ? 0 : -1;
  }
  bool use_window = false;
  for (const Block& block : a.blocks) use_window |= block.attention.window > 0;
  f.field("use_sliding_window", use_window, false);
  f.windows(a, 0, [&](int64_t layer) { return use_window && a.blocks[static_cast<size_t>(layer)].attention.rope < 0; });
}

}  // namespace

const Family kSmollm3Family = {.name = "smollm3",
                               .model_class = "SmolLM3ForCausalLM",
                               .config = config,
                               .sizes = {.default_kv_heads = 4, .default_context = 32768},
                               .gguf = {.architecture = "smollm3", .pairs = true}};

}  // namespace thimble
