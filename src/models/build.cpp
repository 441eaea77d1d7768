#include "models/build.h"

#include <fmt/ranges.h>

#include <cmath>

#include "kernels/dot/int8_dot.h"
#include "models/rope_frequencies.h"
#include "ops/table.h"

namespace thimble {
namespace {

Activation activation_of(Architecture::Ffn ffn) {
  switch (ffn) {
    case Architecture::Ffn::silu_gated:
      return Activation::silu;
    case Architecture::Ffn::gelu_gated:
      return Activation::gelu_tanh;
    case Architecture::Ffn::gelu:
      return Activation::gelu;
    case Architecture::Ffn::gelu_tanh:
      return Activation::gelu_tanh;
    case Architecture::Ffn::relu:
      return Activation::relu;
  }
  return Activation::silu;
}

class ModelBuilder {
 public:
  ModelBuilder(const Architecture& architecture, const BuildOptions& options) : a_(architecture), o_(options) {}

  Result<ModelGraph> build() {
    for (const TensorSpec& weight : tensor_specs(a_)) {
      const Codec* const codec = o_.codec(weight.name, weight.shape);
      if (!codec) return fail(ErrorCode::invalid_argument, "model: there is no weight '{}'", weight.name);
      // Gains and biases are read as f32, in whatever they are stored.
      const bool matrix = weight.shape.rank() > 1;
      weights_[weight.name] =
          g_.add_value(weight.name, {weight.shape, matrix ? codec : &kF32}, o_.role, initial(weight));
    }
    inputs();
    ValueId x = embed();
    for (int64_t layer = 0; layer < a_.layers; ++layer) x = block(x, layer);
    g_.set_block(-1);
    if (o_.purpose != Purpose::fill) head(norm(x, "model.norm"));
    return std::move(m_);
  }

 private:
  bool cached() const { return o_.purpose == Purpose::generate || o_.purpose == Purpose::fill; }

  ValueId input(const char* name, int64_t extent, Extent kind, const Codec* codec = &kI32) {
    return g_.add_value(o_.prefix + name, {{extent}, codec, kind}, Role::input);
  }

  void inputs() {
    m_.ids = input("ids", o_.rows, Extent::tokens);
    m_.positions = input("positions", o_.rows, Extent::tokens);
    if (cached()) {
      m_.slots = input("slots", o_.rows, Extent::tokens);
      if (o_.purpose == Purpose::generate) m_.select = input("select", o_.selected, Extent::selected);
    } else {
      m_.starts = input("starts", o_.rows, Extent::tokens);
    }
    if (o_.purpose == Purpose::train || o_.purpose == Purpose::evaluate) {
      m_.targets = input("targets", o_.rows, Extent::tokens);
      m_.scale = input("scale", 1, Extent::fixed, &kF32);
    }
    if (a_.position == Architecture::Position::rope)
      rope_table_ = g_.add_value("rope.table", {{o_.positions, a_.head_dim}}, Role::constant, rope_table(a_));
  }

  // When training from scratch: normal numbers of deviation 0.02, those of projections back into the residual stream
  // scaled by 1/sqrt(2 layers) (GPT-2); gains 1, biases 0.
  Initial initial(const TensorSpec& weight) const {
    if (weight.shape.rank() == 1) return Initial::constant(weight.name.ends_with(".bias") ? 0.0f : 1.0f);
    const bool into_residual =
        weight.name.find("o_proj") != std::string::npos || weight.name.find("down_proj") != std::string::npos;
    const float residual = 1 / std::sqrt(2 * static_cast<float>(a_.layers));
    return Initial::normal(0.02f * (into_residual ? residual : 1));
  }

  ValueId weight(const std::string& name) const {
    const auto found = weights_.find(name);
    return found == weights_.end() ? kNone : found->second;
  }

  ValueId embed() {
    const EmbeddingAttributes attributes{o_.activation};
    const ValueId x = g_.emit(kEmbedding, attributes, {m_.ids, weight("model.embed_tokens.weight")}, "x");
    if (a_.position == Architecture::Position::rope) return x;
    const ValueId p =
        g_.emit(kEmbedding, attributes, {m_.positions, weight("model.embed_positions.weight")}, "x.position");
    return g_.emit(kAdd, {}, {x, p}, "x.sum");
  }

  ValueId norm(ValueId x, const std::string& name) {
    const NormAttributes attributes{a_.norm_epsilon};
    if (a_.norm == Architecture::Norm::rms) return g_.emit(kRmsNorm, attributes, {x, weight(name + ".weight")}, name);
    return g_.emit(kLayerNorm, attributes, {x, weight(name + ".weight"), weight(name + ".bias")}, name);
  }

  bool narrow(ValueId weight) const {
    const Type& type = g_.value(weight).type;
    return o_.narrow || (o_.int8 && int8_format(*type.codec, type.shape[1]));
  }

  ValueId linear(ValueId x, const std::string& name, ValueId addend = kNone) {
    const ValueId w = weight(name + ".weight");
    return g_.emit(kLinear, LinearAttributes{.codec = o_.activation, .narrow = narrow(w)},
                   {x, w, weight(name + ".bias"), addend}, name);
  }

  // Norms of heads (Qwen3), then rotation.
  ValueId orient(ValueId x, const std::string& name) {
    if (a_.qk_norm) x = g_.emit(kRmsNorm, NormAttributes{a_.norm_epsilon}, {x, weight(name + ".weight")}, name);
    if (a_.position != Architecture::Position::rope) return x;
    const RopeAttributes attributes{a_.head_dim, a_.rope_layout == Architecture::RopeLayout::interleaved, false};
    return g_.emit(kRope, attributes, {x, m_.positions, rope_table_}, name + ".rope");
  }

  ValueId attend(ValueId q, ValueId k, ValueId v, const std::string& name) {
    const AttentionAttributes attributes{a_.heads,
                                         a_.kv_heads,
                                         a_.head_dim,
                                         a_.window,
                                         static_cast<float>(1 / std::sqrt(static_cast<double>(a_.head_dim))),
                                         o_.positions,
                                         o_.purpose == Purpose::fill};
    if (!cached()) {
      const bool wanted[] = {true, o_.purpose == Purpose::train};
      return g_.emit(kAttention, attributes, {q, k, v, m_.starts, kNone}, name, wanted);
    }
    const Type cache{{o_.slots, o_.positions, a_.kv_width()}, o_.cache};
    // Without the prefix: every program sees the same cache.
    const ValueId keys = g_.add_value(name + ".cache_k", cache, Role::state);
    const ValueId values = g_.add_value(name + ".cache_v", cache, Role::state);
    return g_.emit(kAttentionCached, attributes, {q, k, v, keys, values, m_.slots, m_.positions, kNone}, name);
  }

  ValueId block(ValueId x, int64_t layer) {
    g_.set_block(static_cast<int>(layer));
    const std::string name = fmt::format("model.layers.{}.", layer);
    const ValueId n = norm(x, name + "input_layernorm");
    const ValueId q = orient(linear(n, name + "self_attn.q_proj"), name + "self_attn.q_norm");
    const ValueId k = orient(linear(n, name + "self_attn.k_proj"), name + "self_attn.k_norm");
    const ValueId v = linear(n, name + "self_attn.v_proj");
    x = linear(attend(q, k, v, name + "self_attn"), name + "self_attn.o_proj", x);
    const ValueId f = norm(x, name + "post_attention_layernorm");
    const ValueId gate = a_.gated() ? linear(f, name + "mlp.gate_proj") : kNone;
    const ValueId up = linear(f, name + "mlp.up_proj");
    const ValueId act = g_.emit(kActivation, ActivationAttributes{activation_of(a_.ffn)},
                                a_.gated() ? std::vector{gate, up} : std::vector{up, kNone}, name + "mlp.act");
    return linear(act, name + "mlp.down_proj", x);
  }

  void head(ValueId x) {
    const ValueId w = weight(a_.tied ? "model.embed_tokens.weight" : "lm_head.weight");
    if (m_.targets != kNone) {
      const bool train = o_.purpose == Purpose::train;
      const bool wanted[] = {true, train, train, train && o_.keep_logits};
      m_.nll = g_.emit(kLinearCrossEntropy, CrossEntropyAttributes{o_.negligible}, {x, w, m_.targets, m_.scale, kNone},
                       o_.prefix + "nll", wanted);
      g_.value(m_.nll).role = Role::result;
      return;
    }
    if (o_.purpose == Purpose::generate) x = g_.emit(kGather, {}, {x, m_.select}, "last");
    m_.logits = g_.emit(kLinear, LinearAttributes{.codec = &kF32, .narrow = narrow(w)}, {x, w, kNone, kNone},
                        o_.prefix + "logits");
    g_.value(m_.logits).role = Role::result;
  }

  const Architecture& a_;
  const BuildOptions& o_;
  ModelGraph m_;
  Graph& g_ = m_.graph;
  std::map<std::string, ValueId> weights_;
  ValueId rope_table_ = kNone;
};

}  // namespace

Initial rope_table(const Architecture& a) {
  const RopeFrequencies rope = rope_frequencies(a);
  const auto fill = [rope, width = a.head_dim](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e) {
      const int64_t p = e / width, i = e % width / 2;
      // The angle is rounded to f32 as the field's implementations do, then taken in double.
      const double angle = static_cast<float>(static_cast<float>(p) * rope.inverse[static_cast<size_t>(i)]);
      to[e - first] = static_cast<float>((e % 2 ? std::sin(angle) : std::cos(angle)) * rope.scale);
    }
  };
  return Initial::table(fill, fmt::format("rotations {} scale {}", fmt::join(rope.inverse, " "), rope.scale));
}

Result<ModelGraph> build_model(const Architecture& architecture, const BuildOptions& options) {
  return ModelBuilder(architecture, options).build();
}

}  // namespace thimble
