// Ministral 3: YaRN, and queries that grow with the logarithm of their position.
//
//   Source  transformers, models/ministral3
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.epsilon = 1e-5});
  if (f.reads() && !f.source().json().contains("rope_parameters") && !f.source().json().contains("rope_scaling"))
    f.refuse("'rope_parameters' is missing, without which the family's own would have to be guessed");
  f.rope(a, b, {.base = 1000000});
  f.repeat(a, b);
  f.window(a, 0);
}

}  // namespace

const Family kMinistral3Family = {.name = "ministral3",
                                  .model_class = "Ministral3ForCausalLM",
                                  .config = config,
                                  .sizes = {.default_kv_heads = 8, .default_head_dim = 128, .default_context = 262144}};

}  // namespace thimble
