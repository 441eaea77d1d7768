// OLMo 2: norms behind the sublayers instead of before, and over all of q and k.
//
//   Source  transformers, models/olmo2 (OLMo Team 2024, arXiv:2501.00656)
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  olmo_like(f, a, b);
  f.rope(a, b);
  f.repeat(a, b);
}

}  // namespace

const Family kOlmo2Family = {
    .name = "olmo2",
    .model_class = "Olmo2ForCausalLM",
    .config = config,
    .names = olmo_names,
    .gguf = {.architecture = "olmo2", .tensors = {.head = GgufTensors::always, .any_head_dim = false}}};

}  // namespace thimble
