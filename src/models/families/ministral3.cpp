// Ministral 3: YaRN, and queries that grow with the logarithm of their position.
//
//   Source  transformers, models/ministral3
#include <nlohmann/json.hpp>

#include "models/families.h"

namespace thimble {
namespace {

// That of a file that says nothing, with attention as it is without scaling: mscale and mscale_all_dim are 1.
const RopeScaling kOwnScaling = {
    .kind = RopeScaling::Kind::yarn, .factor = 16, .original_context = 16384, .attention_factor = 1};

bool says_more(const JsonFields& fields, std::string_view key) { return fields.has(key) && !fields.find(key)->empty(); }

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.epsilon = 1e-5});
  f.rope(a, b);
  const bool read = f.reads() && f.result();
  if (read && !says_more(f.source(), "rope_parameters") && !says_more(f.source(), "rope_scaling")) {
    a.ropes[0] = {.rotated = b.attention.head_dim, .base = 1000000, .scaling = kOwnScaling, .query_growth = 0.1};
    f.field("original_max_position_embeddings", a.ropes[0].scaling.original_context, 16384);
  } else if (read && a.ropes[0].query_growth == 0) {
    f.refuse("'llama_4_scaling_beta' is missing beside the rope, or 0, without which transformers cannot run it");
  } else if (read && a.ropes[0].scaling.kind == RopeScaling::Kind::dynamic) {
    f.refuse("'llama_4_scaling_beta' counts from the original context, which a dynamic rope does not have");
  }
  f.repeat(a, b);
  f.window(a, 0);
}

}  // namespace

const Family kMinistral3Family = {.name = "ministral3",
                                  .model_class = "Ministral3ForCausalLM",
                                  .config = config,
                                  .sizes = {.default_kv_heads = 8, .default_head_dim = 128, .default_context = 262144}};

}  // namespace thimble
