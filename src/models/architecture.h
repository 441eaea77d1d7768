// A decoder-only language model as data: a list of blocks, and what is before and behind them.
//
// A block is a mixer (attention), a channel mixer (FFN), the norms around them and how both are added to the residual
// stream. What is special about a family of models is which of these numbers its files give (families.h); the builder
// of graphs (build.h) and the list of tensors know no family.
//
// Values are named as in Hugging Face's Llama, whatever the file or family: "model.embed_tokens.weight",
// "model.layers.3.self_attn.q_proj.weight" [out, in], "model.layers.3.input_layernorm.weight", "model.norm.weight",
// "lm_head.weight" (absent when tied). Llama's names do not cover all: a plain FFN is "mlp.up_proj" and
// "mlp.down_proj"; norms of what is added to the residual stream are "post_self_attn_layernorm" and
// "post_mlp_layernorm" (GLM-4's names); the table of learned positions is "model.embed_positions.weight". The head of
// a model that says labels of whole texts is "score.weight" [labels, width].
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/labels.h"
#include "core/result.h"
#include "core/shape.h"
#include "graph/graph.h"
#include "kernels/rows.h"

namespace thimble {

struct RopeScaling {
  enum class Kind { none, linear, dynamic, llama3, yarn, longrope };
  Kind kind = Kind::none;
  double factor = 1;
  // Context length of the training before the scaling; of `dynamic`, the length up to which nothing is scaled.
  int64_t original_context = 0;
  // llama3
  double low_frequency_factor = 1, high_frequency_factor = 4;
  // yarn (Peng et al. 2023, arXiv:2309.00071)
  double beta_fast = 32, beta_slow = 1;
  bool truncate = true;  // the bounds of the ramp to whole dimensions
  // yarn, longrope: of cos and sin; 0: yarn's 0.1 ln(factor) + 1, longrope's sqrt(1 + ln(factor) /
  // ln(original_context))
  double attention_factor = 0;
  // longrope (Ding et al. 2024, arXiv:2402.13753): divisors of the frequencies up to the original context, and beyond
  std::vector<double> short_factors, long_factors;
  bool operator==(const RopeScaling&) const = default;
};

// Rotary position embedding.
struct Rope {
  // halves: element i is paired with i + rotated/2 (Hugging Face's Llama); interleaved: 2i with 2i + 1 (llama2.c,
  // GPT-J).
  enum class Layout { halves, interleaved };
  int64_t rotated = 0;  // elements of a head that turn: the first ones
  double base = 10000;
  Layout layout = Layout::halves;
  RopeScaling scaling;
  // Queries at position p are multiplied with 1 + query_growth ln(1 + floor(p / original_context)) (Ministral 3).
  double query_growth = 0;
  bool operator==(const Rope&) const = default;
};

struct NormKind;  // models/norm.h

struct Norm {
  const NormKind* kind = nullptr;  // nullptr: there is none
  double epsilon = 1e-5;
  bool gain = true;
  bool bias = false;
  double offset = 0;  // added to gains: 1 where the file holds gain - 1 (Gemma)
  explicit operator bool() const { return kind != nullptr; }
  bool operator==(const Norm&) const = default;
};

struct Attention {
  // What q and k are normalised over, before rotation: each head with the same gains or with its own, or the whole row.
  enum class NormOver { head, each_head, row };
  enum class Bias { none, alibi, alibi_bf16 };  // alibi_bf16: rounded as Falcon does
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  bool qkv_bias = false;
  bool output_bias = false;
  Norm qk_norm = {};
  NormOver qk_norm_over = NormOver::head;
  double scale = 0;    // of q.k; 0: 1/sqrt(head_dim)
  double cap = 0;      // scores become cap tanh(score / cap); 0: none
  int64_t window = 0;  // of sliding attention, in tokens; 0: none
  int rope = 0;        // index into Architecture::ropes; -1: none
  Bias bias = Bias::none;
  int64_t q_width() const { return heads * head_dim; }
  int64_t kv_width() const { return kv_heads * head_dim; }
  bool operator==(const Attention&) const = default;
};

struct Router;  // models/router.h

// Which experts a token goes to.
struct Routing {
  const Router* router = nullptr;  // nullptr: there is one FFN, for all tokens
  int64_t experts = 0;
  int64_t chosen = 1;   // experts of a token, at most
  double capacity = 0;  // in training, of an expert, as a multiple of its even share of tokens; 0: without bound
  double balance = 0;   // in training, the factor of the loss that keeps experts evenly used; 0: there is none
  explicit operator bool() const { return router != nullptr; }
  bool operator==(const Routing&) const = default;
};

struct ChannelMixer;  // models/channel_mixer.h
extern const ChannelMixer kGatedFfn, kPlainFfn;

struct FeedForward {
  int64_t width = 0;  // of one expert, where there are several
  Activation activation = Activation::silu;
  const ChannelMixer* mixer = &kGatedFfn;
  int64_t rank = 0;  // of the factors of its matrices, where the mixer has such; else 0
  bool bias = false;
  Routing routing = {};
  bool operator==(const FeedForward&) const = default;
};

struct Mixer;  // models/mixer.h

// x1 = x + after_mixer(mixer(before_mixer(x)));  y = x1 + after_ffn(ffn(before_ffn(x1))).
struct Block {
  Norm before_mixer, after_mixer, before_ffn, after_ffn;
  const Mixer* mixer = nullptr;  // nullptr: attention; another has the heads of `attention`, as many of keys, no rope
  Attention attention;
  FeedForward ffn;
  bool parallel = false;          // the FFN reads before_ffn(x); without such a norm, what the mixer reads
  bool norm_after_sum = false;    // x1 = after_mixer(x + ...), y = after_ffn(x1 + ...): the first transformer, OPT-350m
  bool residual_of_norm = false;  // what is added to is before_mixer(x), before_ffn(x1) (BLOOM, on request)
  double residual_scale = 1;      // of what is added
  bool operator==(const Block&) const = default;
};

struct Architecture {
  std::string family;  // as Hugging Face's model_type
  int64_t vocab = 0;
  int64_t width = 0;    // of the residual stream
  int64_t context = 0;  // longest sequence it was made for
  std::vector<Block> blocks;
  std::vector<Rope> ropes;
  // Two streams in place of one, both the embedded text at first: x1 <- x1 + mixer(norm(x2)); x2 <- x2 + ffn(norm(x1));
  // the head reads their mean. Each can be recovered from the other (RevNet: Gomez et al. 2017, arXiv:1707.04585).
  bool coupled = false;
  // No block reads what another has made: block t of T reads the embedded text with z_(t-1) added, z_0 = 0, and what it
  // adds is u_t;  z_t = a_t u_t + b_t z_(t-1)  (denoising_step), and the head reads z_T (NoProp: Li et al. 2025,
  // arXiv:2503.24322).
  bool denoises = false;

  int64_t embedding_width = 0;  // other than `width`: linear layers lead there and back (OPT-350m); 0: the same
  double embedding_scale = 1;
  int64_t learned_positions = 0;  // rows of the table of learned positions; 0: there is none
  int64_t first_position = 0;     // row of position 0 in it
  Norm embedding_norm;
  Norm final_norm;
  bool tied = true;  // the head is the embedding
  bool head_bias = false;
  double logit_scale = 1;
  double logit_cap = 0;  // logits become cap tanh(logit / cap); 0: none
  // In place of the next token, the head says the label of the text, at its last token.
  std::optional<Labels> labels;

  // Rows of the head.
  int64_t outputs() const { return labels ? labels->count() : vocab; }
  int64_t layers() const { return static_cast<int64_t>(blocks.size()); }
  bool operator==(const Architecture&) const = default;
};

// What a file calls the extents, for messages; empty: it has no such field.
struct ExtentNames {
  std::string_view vocab = {}, width = {}, layers = {}, heads = {}, kv_heads = {}, head_dim = {}, ffn = {};
  std::string_view context = {}, window = {}, embedding = {};
};

// Every extent positive and below bounds that keep products within int64, heads divisible by kv_heads, an even number
// of rotated elements, and so on. `source` names the file in messages.
Result<void> check(const Architecture& architecture, const std::string& source, const ExtentNames& names = {});

// The same model with another head, for labels: transformers' ForSequenceClassification, whose scores are neither
// scaled nor capped.
Architecture labelled(Architecture architecture, Labels labels);
inline constexpr const char* kScoreHead = "score.weight";
inline constexpr const char* kScoreModule = "score";

// As GGUF keeps it: numbers rounded to f32, and the layout of rope, which is the files', left out.
Architecture in_f32(Architecture architecture);

// The plain decoder of Llama: RMS norms, all of a head turned, a gated FFN; the head is tied.
struct LlamaShape {
  int64_t vocab, width, layers, heads, kv_heads, head_dim, ffn_width, context;
};
Architecture llama(const LlamaShape& shape);

struct TensorSpec {
  std::string name;
  Shape shape;
  Initial initial;      // when training from scratch
  bool scores = false;  // of a linear layer that makes one number an expert or a head
};

// Standard deviation of the numbers of a new matrix, embeddings among them.
inline constexpr float kDeviation = 0.02f;

// Every tensor of a model, in the order in which thimble keeps them: embedding, blocks, final norm, head.
std::vector<TensorSpec> tensor_specs(const Architecture& architecture);

}  // namespace thimble
