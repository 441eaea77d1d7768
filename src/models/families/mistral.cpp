// Mistral 7B and its kin: one sliding window for all layers, for those that layer_types names, or none.
//
//   Source  transformers, models/mistral (Jiang et al. 2023, arXiv:2310.06825)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b);
  f.rope(a, b);
  f.repeat(a, b);
  // With layer types it is a Ministral, for transformers too.
  bool differ = false;
  for (const Block& block : a.blocks) differ |= block.attention.window != a.blocks.front().attention.window;
  if (f.reads() ? f.says("layer_types") : differ)
    f.windows(a, 4096, {});
  else
    f.window(a, 4096);
}

constexpr GgufField kFields[] = {{"attention.sliding_window", "sliding_window"}};

}  // namespace

const Family kMistralFamily = {
    .name = "mistral",
    .model_class = "MistralForCausalLM",
    .config = config,
    .sizes = {.default_kv_heads = 8, .default_context = 131072},
    .gguf = {
        .architecture = "llama", .pairs = true, .fields = kFields, .tensors = kLlamaTensors, .ignores_window = true}};

}  // namespace thimble
