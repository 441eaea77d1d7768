// Granite 3: Llama with scales of embedding, residual, attention and logits.
//
//   Source  transformers, models/granite; Yang et al. 2022, arXiv:2203.03466 (muP)
#include <cmath>
#include <nlohmann/json.hpp>

#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b);
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  f.field("mlp_bias", b.ffn.bias, false);
  f.field("embedding_multiplier", a.embedding_scale, 1);
  f.field("residual_multiplier", b.residual_scale, 1);
  f.field("attention_multiplier", b.attention.scale, 1);
  double divisor = 1 / a.logit_scale;
  f.field("logits_scaling", divisor, 1);
  a.logit_scale = 1 / divisor;
  f.rope(a, b);
  f.repeat(a, b);
}

constexpr GgufField kFields[] = {{"attention.scale", "attention_multiplier"},
                                 {"embedding_scale", "embedding_multiplier"},
                                 {"residual_scale", "residual_multiplier"},
                                 {"logit_scale", "logits_scaling"}};

// llama.cpp's default, which is not transformers'.
void from_tensors(const GgufFile& gguf, int64_t head_dim, Json& config) {
  if (!gguf.find_value("granite.attention.scale") && head_dim > 0)
    config["attention_multiplier"] = 1 / std::sqrt(static_cast<double>(head_dim));
}

}  // namespace

const Family kGraniteFamily = {.name = "granite",
                               .model_class = "GraniteForCausalLM",
                               .config = config,
                               .gguf = {.architecture = "granite",
                                        .pairs = true,
                                        .fields = kFields,
                                        .tensors = kLlamaTensors,
                                        .from_tensors = from_tensors}};

}  // namespace thimble
