#include "models/build.h"

#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "core/random.h"
#include "models/alibi.h"
#include "models/channel_mixer.h"
#include "models/denoising.h"
#include "models/mixer.h"
#include "models/norm.h"
#include "models/rope_frequencies.h"
#include "models/routed_ffn.h"
#include "ops/couple.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

ValueId input(Graph& graph, const std::string& name, int64_t extent, Extent kind, const Codec* codec = &kI32) {
  const ValueId there = graph.find(name);
  return there != kNone ? there : graph.add_value(name, {{extent}, codec, kind}, Role::input);
}

class ModelBuilder {
 public:
  ModelBuilder(Graph& graph, const Architecture& architecture, const BuildOptions& options)
      : a_(architecture), o_(options), g_(graph) {}

  Result<BuiltModel> build() {
    for (const TensorSpec& weight : tensor_specs(a_)) CHECK_OK(add_weight(weight));
    inputs();
    if (o_.part == ModelPart::block) return one_block();
    ValueId x = embed();
    if (a_.coupled)
      x = begin_coupled(x);
    else if (a_.denoises)
      x = begin_denoising(g_, m_, x, o_.scope);
    else
      m_.streams = {x};
    if (o_.part == ModelPart::embedding) {
      m_.hidden = x;
      return m_;
    }
    for (int64_t layer = 0; layer < a_.layers(); ++layer) {
      if (o_.scope.empty()) g_.set_block(static_cast<int>(layer));
      x = block(layer, x);
      if (a_.denoises)
        x = denoised(g_, m_, denoised_, a_.layers(), x, *o_.activation, o_.scope);
      else if (!a_.coupled)
        m_.streams.push_back(x);
    }
    g_.set_block(-1);
    if (a_.coupled) x = joined(g_, streams_[0], streams_[1], 1, *o_.activation, o_.scope + "x.joined");
    add_balance();
    m_.hidden = scaled(project(final_norm(x), "model.project_out"), a_.logit_scale, "head.x");
    m_.head = weight(a_.labels ? kScoreHead : a_.tied ? "model.embed_tokens.weight" : "lm_head.weight");
    m_.head_bias = weight("lm_head.bias");
    m_.logit_cap = a_.logit_cap;
    return m_;
  }

  Result<void> add_weight(const TensorSpec& weight) {
    const Codec* const codec = o_.codec(weight.name, weight.shape);
    if (!codec) return fail(ErrorCode::invalid_argument, "model: there is no weight '{}'", weight.name);
    // Gains and biases are read as f32, in whatever they are stored.
    const bool matrix = weight.shape.rank() > 1;
    weights_[weight.name] =
        g_.add_value(o_.scope + weight.name, {weight.shape, matrix ? codec : &kF32}, o_.role, weight.initial);
    return {};
  }

  void inputs() {
    m_.ids = input(g_, o_.prefix + "ids", o_.rows, Extent::tokens);
    m_.positions = input(g_, o_.prefix + "positions", o_.rows, Extent::tokens);
    ValueId& sequence = o_.cache ? m_.slots : m_.starts;
    sequence = input(g_, o_.prefix + (o_.cache ? "slots" : "starts"), o_.rows, Extent::tokens);
    for (size_t i = 0; i < a_.ropes.size(); ++i) {
      const Rope& rope = a_.ropes[i];
      tables_.push_back(add_rope_table(g_, a_, i, o_));
      const Value table = g_.value(tables_.back());
      query_tables_.push_back(rope.query_growth == 0 ? tables_.back()
                                                     : g_.constant(table.name + ".queries", table.type,
                                                                   rope_table(rope, o_.positions, true)));
    }
  }

  ValueId block(int64_t layer, ValueId x) {
    return block(a_.blocks[static_cast<size_t>(layer)], x, fmt::format("model.layers.{}.", layer));
  }
  ValueId final_norm(ValueId x) { return norm(a_.final_norm, x, "model.norm"); }

 private:
  ValueId emit(const Op& op, std::any attributes, std::vector<ValueId> in, const std::string& name,
               std::span<const bool> wanted = {}) {
    return g_.emit(op, std::move(attributes), std::move(in), o_.scope + name, wanted);
  }

  BuiltModel one_block() {
    m_.stream = g_.add_value(o_.prefix + "stream", {{o_.rows, a_.width}, o_.activation, Extent::tokens}, Role::input);
    m_.hidden = block(a_.blocks.front(), m_.stream, "model.layers.0.");
    return m_;
  }

  ValueId weight(const std::string& name) const {
    const auto found = weights_.find(name);
    return found == weights_.end() ? kNone : found->second;
  }

  // By its name in the graph.
  ValueId scoped(const std::string& name) const { return weight(name.substr(o_.scope.size())); }

  ValueId embed() {
    ValueId x =
        emit(kEmbedding, EmbeddingAttributes{o_.activation}, {m_.ids, weight("model.embed_tokens.weight")}, "x");
    x = scaled(project(x, "model.project_in"), a_.embedding_scale, "x.scaled");
    if (a_.learned_positions) {
      const EmbeddingAttributes attributes{o_.activation, a_.first_position};
      const ValueId p =
          emit(kEmbedding, attributes, {m_.positions, weight("model.embed_positions.weight")}, "x.position");
      x = emit(kAdd, {}, {x, p}, "x.sum");
    }
    return norm(a_.embedding_norm, x, "model.embed_norm");
  }

  ValueId scaled(ValueId x, double by, const std::string& name) {
    if (by == 1) return x;
    PointwiseBuilder b;
    b.output(b.tensor() * by, o_.activation);
    return emit(kPointwise, b.attributes(), {x}, name);
  }

  ValueId project(ValueId x, const std::string& name) {
    return weight(name + ".weight") == kNone ? x : linear(x, name);
  }

  // group: columns that are normalised together, where they are fewer than the gains.
  ValueId norm(const Norm& n, ValueId x, const std::string& name, int64_t group = 0) {
    if (!n) return x;
    return n.kind->apply({.graph = g_,
                          .norm = n,
                          .codec = o_.activation,
                          .name = o_.scope + name,
                          .x = x,
                          .group = group,
                          .weight = [this](const std::string& tensor) { return scoped(tensor); }});
  }

  ValueId linear(ValueId x, const std::string& name, ValueId addend = kNone, double scale = 1) {
    const LinearAttributes attributes{.terms = {{true, static_cast<float>(scale)}}, .codec = o_.activation};
    return emit(kLinear, attributes, {x, weight(name + ".weight"), weight(name + ".bias"), addend}, name);
  }

  ValueId begin_coupled(ValueId x) {
    streams_[0] = streams_[1] = {in_codec(g_, x, kF32, o_.scope + "x.wide"), kNone};
    return x;
  }

  // The stream that the mixer or FFN has not read takes up what it made, and is what comes next reads.
  ValueId take_up(const Block& b, ValueId y, const std::string& module, const Norm& after,
                  const std::string& norm_name) {
    y = scaled(norm(after, y, norm_name), b.residual_scale, module + ".scaled");
    const Wide sum = couple(g_, {}, streams_[0], y, {}, o_.scope + module + ".sum");
    streams_[0] = std::exchange(streams_[1], sum);
    return in_codec(g_, sum.high, *o_.activation, o_.scope + module + ".stream");
  }

  // stream + scale * norm(linear(x)).
  ValueId join(const Block& b, ValueId stream, ValueId x, const std::string& module, const Norm& after,
               const std::string& norm_name) {
    if (a_.coupled) return take_up(b, linear(x, module), module, after, norm_name);
    const bool biased = weight(module + ".bias") != kNone;
    if ((!after || b.norm_after_sum) && (b.residual_scale == 1 || !biased)) {
      const ValueId sum = linear(x, module, stream, b.residual_scale);
      return b.norm_after_sum ? norm(after, sum, norm_name) : sum;
    }
    return add(b, stream, linear(x, module), module, after, norm_name);
  }

  ValueId add(const Block& b, ValueId stream, ValueId y, const std::string& module, const Norm& after,
              const std::string& norm_name) {
    if (!b.norm_after_sum) y = norm(after, y, norm_name);
    const ValueId sum = emit(kAdd, {}, {stream, scaled(y, b.residual_scale, module + ".scaled")}, module + ".sum");
    return b.norm_after_sum ? norm(after, sum, norm_name) : sum;
  }

  // Norm of queries or keys, then rotation.
  ValueId orient(const Attention& a, ValueId x, const std::string& name, std::span<const ValueId> tables) {
    x = norm(a.qk_norm, x, name, a.qk_norm_over == Attention::NormOver::each_head ? a.head_dim : 0);
    if (a.rope < 0) return x;
    const auto which = static_cast<size_t>(a.rope);
    const Rope& rope = a_.ropes[which];
    const RopeAttributes attributes{a.head_dim, rope.rotated == a.head_dim ? 0 : rope.rotated,
                                    rope.layout == Rope::Layout::interleaved, false};
    return emit(kRope, attributes, {x, m_.positions, tables[which]}, name + ".rope");
  }

  ValueId bias(const Attention& a, float scale) {
    if (a.bias == Attention::Bias::none) return kNone;
    const std::string name = fmt::format("{}alibi.{}.table", o_.scope, a.heads);
    return g_.constant(name, {{a.heads, o_.positions}}, alibi_table(a, o_.positions, scale));
  }

  ValueId attend(const Attention& a, ValueId q, ValueId k, ValueId v, const std::string& name) {
    const double usual = 1 / std::sqrt(static_cast<double>(a.head_dim));
    AttentionAttributes attributes{a.heads,
                                   a.kv_heads,
                                   a.head_dim,
                                   a.window,
                                   static_cast<float>(a.scale > 0 ? a.scale : usual),
                                   static_cast<float>(a.cap)};
    attributes.longest = o_.positions;
    attributes.tiles = o_.follow_on;
    const ValueId by_place = bias(a, attributes.scale);
    if (!o_.cache) {
      const bool wanted[] = {true, o_.differentiable};
      return emit(kAttention, attributes, {q, k, v, m_.starts, by_place}, name, wanted);
    }
    const auto [keys, values] = add_cache(g_, a, name, o_);
    return emit(kAttentionCached, attributes, {q, k, v, keys, values, m_.slots, m_.positions, by_place}, name);
  }

  ValueId attention(const Attention& a, ValueId n, const std::string& name) {
    const ValueId q = orient(a, linear(n, name + ".q_proj"), name + ".q_norm", query_tables_);
    const ValueId k = orient(a, linear(n, name + ".k_proj"), name + ".k_norm", tables_);
    const ValueId v = linear(n, name + ".v_proj");
    return attend(a, q, k, v, name);
  }

  ValueId mix(const Block& b, ValueId n, const std::string& name) {
    return b.mixer->mix({.graph = g_,
                         .attention = b.attention,
                         .name = o_.scope + name,
                         .x = n,
                         .starts = m_.starts,
                         .slots = m_.slots,
                         .positions = m_.positions,
                         .slot_count = o_.cache ? o_.slots : 0,
                         .longest = o_.positions,
                         .epsilon = b.before_mixer ? b.before_mixer.epsilon : 1e-5,
                         .weight = [this](const std::string& of) { return scoped(of); }});
  }

  ValueId block(const Block& b, ValueId x, const std::string& name) {
    const ValueId n = norm(b.before_mixer, x, name + "input_layernorm");
    const ValueId rows = b.mixer ? mix(b, n, name + "self_attn.") : attention(b.attention, n, name + "self_attn");
    const ValueId mixed = join(b, b.residual_of_norm ? n : x, rows, name + "self_attn.o_proj", b.after_mixer,
                               name + "post_self_attn_layernorm");
    const bool shares_norm = b.parallel && !b.before_ffn;
    const ValueId f = shares_norm ? n : norm(b.before_ffn, b.parallel ? x : mixed, name + "post_attention_layernorm");
    const ValueId stream = b.residual_of_norm ? f : mixed;
    if (b.ffn.routing) return routed(b, stream, f, name);
    const ChannelMixerContext context{
        .graph = g_,
        .ffn = b.ffn,
        .name = o_.scope + name + "mlp.",
        .x = f,
        .linear = [&](ValueId in, const std::string& module) { return linear(in, name + "mlp." + module); }};
    return join(b, stream, b.ffn.mixer->mix(context), name + "mlp.down_proj", b.after_ffn, name + "post_mlp_layernorm");
  }

  ValueId routed(const Block& b, ValueId stream, ValueId x, const std::string& name) {
    const RouterContext context{.graph = g_,
                                .routing = b.ffn.routing,
                                .name = o_.scope + name + "mlp.",
                                .x = x,
                                .ids = m_.ids,
                                .vocab = a_.vocab,
                                .trains = o_.differentiable,
                                .weight = [this](const std::string& of) { return scoped(of); }};
    const bool plain = (!b.after_ffn || b.norm_after_sum) && b.residual_scale == 1 && !a_.coupled;
    const RoutedFfn ffn = add_routed_ffn(context, b.ffn, plain ? stream : kNone);
    if (ffn.balance != kNone) balance_.push_back(ffn.balance);
    const std::string after = name + "post_mlp_layernorm";
    if (a_.coupled) return take_up(b, ffn.sum, name + "mlp.experts", b.after_ffn, after);
    if (plain) return b.norm_after_sum ? norm(b.after_ffn, ffn.sum, after) : ffn.sum;
    return add(b, stream, ffn.sum, name + "mlp.experts", b.after_ffn, after);
  }

  // The sum of the layers' losses, of every token.
  void add_balance() {
    if (balance_.empty()) return;
    PointwiseBuilder b;
    Expr sum = b.tensor();
    for (size_t i = 1; i < balance_.size(); ++i) sum = sum + b.tensor();
    b.output(sum);
    m_.balance = g_.emit(kPointwise, b.attributes(), balance_, o_.prefix + "balance.rows");
  }

  const Architecture& a_;
  const BuildOptions& o_;
  Graph& g_;
  BuiltModel m_;
  std::map<std::string, ValueId> weights_;
  std::vector<ValueId> tables_, query_tables_;  // by rope
  std::vector<ValueId> balance_;                // f32 [tokens] each
  ValueId denoised_ = kNone;                    // of a model that denoises: z
  Wide streams_[2];                             // of a coupled model: the one that takes up next, the one that is read
};

}  // namespace

namespace {

constexpr std::string_view kKeys = ".cache_k", kValues = ".cache_v";

}  // namespace

bool caches_positions(std::string_view value) { return value.ends_with(kKeys) || value.ends_with(kValues); }

// Without the prefix: every program sees the same cache.
CacheValues add_cache(Graph& graph, const Attention& a, const std::string& name, const BuildOptions& o) {
  const Type cache{{o.slots, o.positions, a.kv_width()}, o.cache};
  const ValueId keys = graph.add_value(fmt::format("{}{}{}", o.scope, name, kKeys), cache, Role::state);
  return {keys, graph.add_value(fmt::format("{}{}{}", o.scope, name, kValues), cache, Role::state)};
}

ValueId add_rope_table(Graph& graph, const Architecture& a, size_t which, const BuildOptions& o) {
  const std::string name = o.scope + (which == 0 ? "rope.table" : fmt::format("rope.{}.table", which));
  const Rope& rope = a.ropes[which];
  return graph.constant(name, {{o.positions, rope.rotated}}, rope_table(rope, o.positions));
}

Result<BuiltModel> build_model(Graph& graph, const Architecture& architecture, const BuildOptions& options) {
  return ModelBuilder(graph, architecture, options).build();
}

struct BlockBuilder::Parts {
  Parts(Graph& graph, Architecture of, BuildOptions with)
      : architecture(std::move(of)), options(std::move(with)), builder(graph, architecture, options) {
    for (TensorSpec& spec : tensor_specs(architecture)) specs[part_of(spec.name)].push_back(std::move(spec));
    builder.inputs();
  }

  // "model.layers.3", "model.norm".
  static std::string part_of(const std::string& name) {
    constexpr std::string_view kBlocks = "model.layers.";
    return name.substr(0, name.starts_with(kBlocks) ? name.find('.', kBlocks.size()) : name.rfind('.'));
  }
  void add_weights(const std::string& part) {
    for (const TensorSpec& spec : specs[part]) (void)builder.add_weight(spec);
  }

  const Architecture architecture;
  const BuildOptions options;
  std::map<std::string, std::vector<TensorSpec>> specs;  // by what they are a part of
  ModelBuilder builder;
};

BlockBuilder::BlockBuilder(Graph& graph, Architecture architecture, BuildOptions options) {
  options.codec = [](const std::string&, const Shape&) { return &kF32; };
  parts_ = std::make_unique<Parts>(graph, std::move(architecture), std::move(options));
}

BlockBuilder::~BlockBuilder() = default;

ValueId BlockBuilder::block(int64_t layer, ValueId stream) {
  parts_->add_weights(fmt::format("model.layers.{}", layer));
  return parts_->builder.block(layer, stream);
}

ValueId BlockBuilder::final_norm(ValueId stream) {
  parts_->add_weights("model.norm");
  return parts_->builder.final_norm(stream);
}

TokenLoss add_token_loss(Graph& graph, const BuiltModel& model, const TokenLossOptions& options) {
  TokenLoss loss;
  loss.targets = input(graph, options.prefix + "targets", graph.value(model.ids).type.shape[0], Extent::tokens);
  loss.scale = input(graph, options.prefix + "scale", 1, Extent::fixed, &kF32);
  if (!options.loss) return loss;
  const TokenTerms& terms = options.terms;
  const CrossEntropyAttributes attributes{terms.uniform > 0 ? 0 : options.negligible,
                                          static_cast<float>(model.logit_cap), terms};
  const bool wanted[] = {true, options.gradient, options.gradient || options.tangent,
                         options.gradient && options.keep_logits};
  ValueId targets = loss.targets;
  if (options.draws_targets)
    targets = graph.emit(kDrawTargets, DrawTargetsAttributes{name_hash("drawn targets"), attributes.cap},
                         {model.hidden, model.head, targets, model.head_bias}, options.prefix + "drawn");
  loss.nll =
      graph.emit(kLinearCrossEntropy, attributes, {model.hidden, model.head, targets, loss.scale, model.head_bias},
                 options.prefix + "nll", wanted);
  graph.value(loss.nll).role = Role::result;
  return loss;
}

void add_balance_loss(Graph& graph, const BuiltModel& model, double share, const std::string& prefix) {
  if (model.balance == kNone) return;
  PointwiseBuilder b;
  b.output(b.tensor() * share);
  const ValueId loss = graph.emit(kPointwise, b.attributes(), {model.balance}, prefix + std::string(kBalance));
  graph.value(loss).role = Role::result;
}

ValueId add_logits(Graph& graph, const BuiltModel& model, std::string name, ValueId rows) {
  const ValueId x =
      rows == kNone ? model.hidden : graph.emit(kGather, GatherAttributes{}, {model.hidden, rows}, "last");
  ValueId logits = graph.emit(kLinear, LinearAttributes{.codec = &kF32}, {x, model.head, model.head_bias, kNone},
                              model.logit_cap > 0 ? name + ".uncapped" : name);
  if (model.logit_cap > 0) {
    PointwiseBuilder b;
    const Expr logit = b.tensor();
    b.output(model.logit_cap * tanh(logit / model.logit_cap));
    logits = graph.emit(kPointwise, b.attributes(), {logits}, std::move(name));
  }
  graph.value(logits).role = Role::result;
  return logits;
}

}  // namespace thimble
