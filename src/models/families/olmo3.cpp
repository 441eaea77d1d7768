// OLMo 3: OLMo 2 with three layers with a window to one without, whose rope alone is scaled.
//
//   Source  transformers, models/olmo3
//   Choice  of an old config.json the layers with a window take 500000 for rope_theta whatever it says, as transformers
//           does
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  olmo_like(f, a, b);
  f.rope(a, b, {.base = 500000, .layer_type = "full_attention"}, 0);
  f.rope(a, b, {.base = 500000, .layer_type = "sliding_attention", .base_field = ""}, 1);
  f.repeat(a, b);
  f.windows(a, 4096, [](int64_t layer) { return (layer + 1) % 4 != 0; });
  if (f.reads())
    for (Block& block : a.blocks) block.attention.rope = block.attention.window > 0 ? 1 : 0;
}

constexpr GgufField kFields[] = {{"attention.sliding_window", "sliding_window"}};

}  // namespace

const Family kOlmo3Family = {.name = "olmo3",
                             .model_class = "Olmo3ForCausalLM",
                             .config = config,
                             .names = olmo_names,
                             .gguf = {.architecture = "olmo2",
                                      .fields = kFields,
                                      .tensors = {.head = GgufTensors::always, .any_head_dim = false},
                                      .local_rope = true}};

}  // namespace thimble
