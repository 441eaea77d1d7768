// Ministral 8B: Mistral with windows in some layers only.
//
//   Source  transformers, models/ministral
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b);
  f.rope(a, b);
  f.repeat(a, b);
  f.windows(a, 4096, [](int64_t) { return true; });
}

}  // namespace

const Family kMinistralFamily = {.name = "ministral",
                                 .model_class = "MinistralForCausalLM",
                                 .config = config,
                                 .sizes = {.default_kv_heads = 8, .default_context = 131072}};

}  // namespace thimble
