// A decoder-only language model as data: what its blocks are made of and how large they are.
//
// Values are named as in Hugging Face's Llama, whatever the file or family: "model.embed_tokens.weight",
// "model.layers.3.self_attn.q_proj.weight" [out, in], "model.layers.3.input_layernorm.weight", "model.norm.weight",
// "lm_head.weight" (absent when tied). GPT-2 has the same names, with "mlp.up_proj" and "mlp.down_proj" for its
// plain FFN, ".bias" beside every ".weight", and "model.embed_positions.weight".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/shape.h"

namespace thimble {

struct RopeScaling {
  enum class Kind { none, linear, llama3, yarn };
  Kind kind = Kind::none;
  double factor = 1;
  int64_t original_context = 0;
  // llama3
  double low_frequency_factor = 1, high_frequency_factor = 4;
  // yarn (Peng et al. 2023, arXiv:2309.00071)
  double beta_fast = 32, beta_slow = 1;
  double attention_factor = 0;  // 0: 0.1 ln(factor) + 1
  bool operator==(const RopeScaling&) const = default;
};

struct Architecture {
  enum class Norm { rms, layer };
  enum class Ffn { silu_gated, gelu_gated, gelu, gelu_tanh, relu };
  enum class Position { rope, learned };
  // halves: element i is paired with i + head_dim/2 (Hugging Face); interleaved: 2i with 2i + 1 (llama2.c).
  enum class RopeLayout { halves, interleaved };

  std::string family;  // "llama", "mistral", "qwen2", "qwen3", "gpt2"
  int64_t vocab = 0;
  int64_t width = 0;  // model dimension
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // of one head
  int64_t ffn_width = 0;
  int64_t context = 0;  // longest sequence it was made for
  Norm norm = Norm::rms;
  double norm_epsilon = 1e-5;
  Ffn ffn = Ffn::silu_gated;
  Position position = Position::rope;
  RopeLayout rope_layout = RopeLayout::halves;
  double rope_base = 10000;
  RopeScaling rope_scaling;
  bool qkv_bias = false;     // Qwen2, GPT-2
  bool linear_bias = false;  // on the attention output and the FFN (GPT-2)
  bool qk_norm = false;      // RMSNorm of each head of q and k, before rotation (Qwen3)
  bool tied = true;          // the head is the embedding
  int64_t window = 0;        // sliding window of attention in tokens; 0 = none

  bool gated() const { return ffn == Ffn::silu_gated || ffn == Ffn::gelu_gated; }
  int64_t q_width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
  bool operator==(const Architecture&) const = default;
};

// Every extent positive and below bounds that keep products within int64, heads divisible by kv_heads, head_dim even
// with rope, and so on. `source` names the file in messages.
Result<void> check(const Architecture& architecture, const std::string& source);

struct TensorSpec {
  std::string name;
  Shape shape;
};

// Every tensor of a model, in the order in which thimble keeps them: embedding, blocks, final norm, head.
std::vector<TensorSpec> tensor_specs(const Architecture& architecture);

}  // namespace thimble
