#include "models/architecture.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "models/channel_mixer.h"
#include "models/mixer.h"
#include "models/norm.h"
#include "models/rope_frequencies.h"
#include "models/router.h"

namespace thimble {
namespace {

// The file that is checked, and what it calls the extents.
struct Where {
  const std::string& file;
  const ExtentNames& names;

  // " ('num_attention_heads')"
  static std::string named(std::string_view name) { return name.empty() ? "" : fmt::format(" ('{}')", name); }
};

struct Bound {
  std::string_view what;
  std::string_view name;  // of the field; empty: the file has none
  int64_t value;
  int64_t largest;
  int64_t least = 1;
};

Failure out_of_bounds(const Where& where, const Bound& bound) {
  return fail(ErrorCode::invalid_argument, "reading {}: the {}{} should be in {}..{}, found {}", where.file, bound.what,
              Where::named(bound.name), bound.least, bound.largest, bound.value);
}

// Bounds that no model comes near, and under which no product of two of them leaves int64.
Result<void> check_bounds(std::initializer_list<Bound> bounds, const Where& where) {
  for (const Bound& bound : bounds)
    if (bound.value < bound.least || bound.value > bound.largest) return out_of_bounds(where, bound);
  return {};
}

struct Factor {
  std::string_view what;
  double value;
  bool zero_allowed = false;
};
Result<void> check_factors(std::initializer_list<Factor> factors, const Where& where) {
  // As f32, which is what is computed with.
  for (const Factor& f : factors)
    if (const auto value = static_cast<float>(f.value);
        !std::isfinite(value) || value < 0 || (value == 0 && !(f.zero_allowed && f.value == 0)))
      return fail(ErrorCode::invalid_argument, "reading {}: the {} should be positive and within f32, found {}",
                  where.file, f.what, f.value);
  return {};
}

Result<void> check_norm(const Norm& norm, const Where& where) {
  // Written so that NaN fails too.
  if (!norm || (norm.epsilon > 0 && norm.epsilon < 1)) return {};
  return fail(ErrorCode::invalid_argument, "reading {}: the norm's epsilon should be between 0 and 1, found {}",
              where.file, norm.epsilon);
}

Result<void> check_factors(const RopeScaling& s, size_t turns, const Where& where) {
  for (const auto& [name, factors] : {std::pair{"short_factor", &s.short_factors}, {"long_factor", &s.long_factors}}) {
    if (factors->size() != turns)
      return fail(ErrorCode::invalid_argument, "reading {}: rope scaling's {} should have {} numbers, found {}",
                  where.file, name, turns, factors->size());
    for (const double factor : *factors) CHECK_OK(check_factors({{name, factor}}, where));
  }
  return {};
}

Result<void> check_scaling(const Rope& rope, const Where& where) {
  const RopeScaling& s = rope.scaling;
  if (s.kind == RopeScaling::Kind::none) return {};
  if (!std::isfinite(s.factor) || s.factor < 1)
    return fail(ErrorCode::invalid_argument, "reading {}: the rope scaling factor should be at least 1, found {}",
                where.file, s.factor);
  if (s.kind == RopeScaling::Kind::linear) return {};
  if (s.original_context < 1 || s.original_context > (int64_t{1} << 30))
    return fail(ErrorCode::invalid_argument, "reading {}: rope scaling needs the original context length, found {}",
                where.file, s.original_context);
  if (!(s.attention_factor >= 0) || !std::isfinite(s.attention_factor))
    return fail(ErrorCode::invalid_argument, "reading {}: rope scaling's attention_factor should be positive, found {}",
                where.file, s.attention_factor);
  if (s.kind == RopeScaling::Kind::longrope) return check_factors(s, static_cast<size_t>(rope.rotated / 2), where);
  const bool llama3 = s.kind == RopeScaling::Kind::llama3;
  const double low = llama3 ? s.low_frequency_factor : s.beta_slow,
               high = llama3 ? s.high_frequency_factor : s.beta_fast;
  if (low > 0 && high > low && std::isfinite(high)) return {};
  return fail(ErrorCode::invalid_argument, "reading {}: the {} of rope scaling should be positive and in order",
              where.file, llama3 ? "low and high frequency factors" : "beta_slow and beta_fast");
}

Result<void> check_rope(const Rope& rope, const Where& where) {
  if (rope.rotated < 2 || rope.rotated % 2 != 0)
    return fail(ErrorCode::invalid_argument,
                "reading {}: rope needs an even head dimension{}, or an even part of it, found {}", where.file,
                Where::named(where.names.head_dim), rope.rotated);
  if (rope.query_growth != 0 && rope.scaling.original_context < 1)
    return fail(ErrorCode::invalid_argument,
                "reading {}: queries that grow with their position need rope scaling's original context length",
                where.file);
  CHECK_OK(check_factors({{"rope base", rope.base}, {"growth of queries", rope.query_growth, true}}, where));
  return check_scaling(rope, where);
}

Result<void> check_attention(const Attention& a, const Architecture& all, const Where& where) {
  const ExtentNames& n = where.names;
  CHECK_OK(check_bounds({{"number of heads", n.heads, a.heads, 1 << 14},
                         {"number of kv heads", n.kv_heads, a.kv_heads, 1 << 14},
                         {"head dimension", n.head_dim, a.head_dim, 1 << 14},
                         {"attention window", n.window, a.window, int64_t{1} << 40, 0}},
                        where));
  if (a.heads % a.kv_heads != 0)
    return fail(ErrorCode::invalid_argument, "reading {}: {} heads{} cannot share {} kv heads{} evenly", where.file,
                a.heads, Where::named(n.heads), a.kv_heads, Where::named(n.kv_heads));
  if (a.q_width() > (int64_t{1} << 20))
    return fail(ErrorCode::invalid_argument, "reading {}: {} heads{} of {} elements{} are wider than {}", where.file,
                a.heads, Where::named(n.heads), a.head_dim, Where::named(n.head_dim), 1 << 20);
  if (a.rope >= 0 && all.ropes[static_cast<size_t>(a.rope)].rotated > a.head_dim)
    return fail(ErrorCode::invalid_argument, "reading {}: rope turns {} elements of heads of {}", where.file,
                all.ropes[static_cast<size_t>(a.rope)].rotated, a.head_dim);
  return check_factors({{"scale of attention", a.scale, true}, {"cap of attention", a.cap, true}}, where);
}

Result<void> check_routing(const FeedForward& ffn, const Where& where) {
  const Routing& r = ffn.routing;
  if (!r) return {};
  CHECK_OK(check_bounds({{"number of experts", "", r.experts, 4096}, {"experts of a token", "", r.chosen, r.experts}},
                        where));
  if (ffn.bias) return fail(ErrorCode::unsupported, "reading {}: experts with biases are not supported", where.file);
  return check_factors({{"capacity of experts", r.capacity, true}, {"factor of the balance loss", r.balance, true}},
                       where);
}

Result<void> check_block(const Block& block, const Architecture& all, const Where& where) {
  const int64_t least_rank = block.ffn.mixer->factored ? 1 : 0;
  CHECK_OK(check_bounds({{"FFN width", where.names.ffn, block.ffn.width, int64_t{1} << 22},
                         {"rank of the FFN", "", block.ffn.rank, least_rank << 22, least_rank}},
                        where));
  for (const Norm* norm :
       {&block.before_mixer, &block.after_mixer, &block.before_ffn, &block.after_ffn, &block.attention.qk_norm})
    CHECK_OK(check_norm(*norm, where));
  CHECK_OK(check_routing(block.ffn, where));
  if (const Attention& a = block.attention; block.mixer && (a.kv_heads != a.heads || a.rope >= 0))
    return fail(ErrorCode::invalid_argument,
                "reading {}: blocks of {} have as many heads of keys as of queries, and no rope", where.file,
                block.mixer->name);
  CHECK_OK(check_factors({{"scale of the residual", block.residual_scale}}, where));
  return check_attention(block.attention, all, where);
}

// The tensors of a model, in order.
class SpecList {
 public:
  explicit SpecList(const Architecture& a) : a_(a) {}

  // Normal numbers of deviation 0.02, those of projections back into the residual stream scaled by 1/sqrt(2 layers)
  // (GPT-2), of as many layers as the scale of the residual stands for; gains 1, biases 0.
  void matrix(std::string name, const Shape& shape, bool into_residual = false, float deviation = kDeviation) {
    float scale = 1;
    if (into_residual)
      scale =
          1 / (static_cast<float>(a_.blocks.front().residual_scale) * std::sqrt(2 * static_cast<float>(a_.layers())));
    specs.push_back({std::move(name), shape, Initial::normal(deviation * scale)});
  }
  void bias(const std::string& name, int64_t width) { specs.push_back({name, {width}, Initial::constant(0)}); }
  void norm(const std::string& name, const Norm& norm, int64_t width) {
    if (!norm) return;
    if (norm.gain) specs.push_back({name + ".weight", {width}, Initial::constant(1 - static_cast<float>(norm.offset))});
    if (norm.bias) bias(name + ".bias", width);
    for (const NormScalar& own : norm.kind->scalars)
      specs.push_back({fmt::format("{}.{}", name, own.name), {1}, Initial::constant(own.initial(width))});
  }
  void linear(const std::string& name, int64_t out, int64_t in, bool biased, bool into_residual = false,
              float deviation = kDeviation) {
    matrix(name + ".weight", {out, in}, into_residual, deviation);
    if (biased) bias(name + ".bias", out);
  }
  void qk_norm(const std::string& name, const Attention& a, int64_t heads) {
    const bool shared = a.qk_norm_over == Attention::NormOver::head;
    norm(name, a.qk_norm, shared ? a.head_dim : heads * a.head_dim);
  }
  void one_ffn(const std::string& prefix, const FeedForward& f) {
    // The product of two matrices of deviation d has d^2 sqrt(rank), which is to be that of one.
    const float deviation =
        f.mixer->factored ? std::sqrt(kDeviation / std::sqrt(static_cast<float>(f.rank))) : kDeviation;
    for (const ChannelMixer::Module& m : f.mixer->modules(f, a_.width))
      linear(prefix + std::string(m.name), m.out, m.in, f.bias && m.biased, false, deviation);
    linear(prefix + "down_proj", a_.width, f.mixer->columns(f), f.bias, true, deviation);
  }
  void feed_forward(const std::string& prefix, const FeedForward& f) {
    if (!f.routing) return one_ffn(prefix, f);
    if (f.routing.router->learnt) {
      linear(prefix + "router", f.routing.experts, a_.width, false);
      specs.back().scores = true;
    }
    for (int64_t e = 0; e < f.routing.experts; ++e) one_ffn(fmt::format("{}experts.{}.", prefix, e), f);
  }
  void attention(const std::string& prefix, const Attention& a) {
    linear(prefix + "q_proj", a.q_width(), a_.width, a.qkv_bias);
    linear(prefix + "k_proj", a.kv_width(), a_.width, a.qkv_bias);
    linear(prefix + "v_proj", a.kv_width(), a_.width, a.qkv_bias);
    qk_norm(prefix + "q_norm", a, a.heads);
    qk_norm(prefix + "k_norm", a, a.kv_heads);
  }
  void block(const Block& b, int64_t layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    const Attention& a = b.attention;
    norm(prefix + "input_layernorm", b.before_mixer, a_.width);
    if (b.mixer)
      for (const TensorSpec& spec : b.mixer->tensors(a, a_.width, Initial::normal(kDeviation)))
        specs.push_back({prefix + "self_attn." + spec.name, spec.shape, spec.initial, spec.scores});
    else
      attention(prefix + "self_attn.", a);
    linear(prefix + "self_attn.o_proj", a_.width, a.q_width(), a.output_bias, true);
    norm(prefix + "post_self_attn_layernorm", b.after_mixer, a_.width);
    norm(prefix + "post_attention_layernorm", b.before_ffn, a_.width);
    feed_forward(prefix + "mlp.", b.ffn);
    norm(prefix + "post_mlp_layernorm", b.after_ffn, a_.width);
  }
  void all() {
    const int64_t embedding = a_.embedding_width ? a_.embedding_width : a_.width;
    matrix("model.embed_tokens.weight", {a_.vocab, embedding});
    if (a_.learned_positions) matrix("model.embed_positions.weight", {a_.learned_positions, a_.width});
    norm("model.embed_norm", a_.embedding_norm, a_.width);
    if (embedding != a_.width) linear("model.project_in", a_.width, embedding, false);
    for (int64_t layer = 0; layer < a_.layers(); ++layer) block(a_.blocks[static_cast<size_t>(layer)], layer);
    norm("model.norm", a_.final_norm, a_.width);
    if (embedding != a_.width) linear("model.project_out", embedding, a_.width, false);
    if (a_.labels) return matrix(kScoreHead, {a_.labels->count(), embedding});
    if (!a_.tied) matrix("lm_head.weight", {a_.vocab, embedding});
    if (a_.head_bias) bias("lm_head.bias", a_.vocab);
  }

  std::vector<TensorSpec> specs;

 private:
  const Architecture& a_;
};

}  // namespace

Result<void> check(const Architecture& a, const std::string& source, const ExtentNames& n) {
  const Where where{source, n};
  CHECK_OK(check_bounds({{"vocabulary size", n.vocab, a.vocab, int64_t{1} << 24},
                         {"model width", n.width, a.width, int64_t{1} << 20},
                         {"number of layers", n.layers, a.layers(), 4096},
                         {"context length", n.context, a.context, int64_t{1} << 30},
                         {"width of the embedding", n.embedding, a.embedding_width, int64_t{1} << 20, 0},
                         {"number of learned positions", n.context, a.learned_positions, (int64_t{1} << 30) + 2, 0}},
                        where));
  if (a.labels) CHECK_OK(check_bounds({{"number of labels", "", a.labels->count(), kMostLabels}}, where));
  int64_t experts = 0;  // of all blocks: each has tensors of its own
  for (const Block& block : a.blocks) experts += block.ffn.routing ? block.ffn.routing.experts : 0;
  CHECK_OK(check_bounds({{"number of experts in all layers", "", experts, 1 << 16, 0}}, where));
  for (const Block& block : a.blocks) {
    CHECK_OK(check_block(block, a, where));
    if (a.coupled && (block.parallel || block.norm_after_sum || block.residual_of_norm))
      return fail(ErrorCode::unsupported,
                  "reading {}: coupled streams are for blocks whose parts follow one another "
                  "with norms before them",
                  source);
  }
  if (a.coupled && a.denoises)
    return fail(
        ErrorCode::unsupported,
        "reading {}: blocks with coupled streams read one another, and blocks that denoise do not; leave one of "
        "the two out",
        source);
  for (const Rope& rope : a.ropes) CHECK_OK(check_rope(rope, where));
  CHECK_OK(check_norm(a.embedding_norm, where));
  CHECK_OK(check_norm(a.final_norm, where));
  return check_factors({{"scale of the embedding", a.embedding_scale},
                        {"scale of the logits", a.logit_scale},
                        {"cap of the logits", a.logit_cap, true}},
                       where);
}

Architecture labelled(Architecture a, Labels labels) {
  a.labels = std::move(labels);
  a.tied = a.head_bias = false;
  a.logit_scale = 1, a.logit_cap = 0;
  return a;
}

Architecture in_f32(Architecture a) {
  const auto round = [](double& x) { x = static_cast<float>(x); };
  const auto round_all = [&](std::vector<double>& numbers) { std::ranges::for_each(numbers, round); };
  for (Block& b : a.blocks) {
    for (Norm* n : {&b.before_mixer, &b.after_mixer, &b.before_ffn, &b.after_ffn, &b.attention.qk_norm})
      round(n->epsilon);
    round(b.attention.scale), round(b.attention.cap), round(b.residual_scale);
  }
  for (Rope& rope : a.ropes) {
    RopeScaling& s = rope.scaling;
    rope.layout = Rope::Layout::halves;
    for (double* x : {&rope.base, &rope.query_growth, &s.factor, &s.low_frequency_factor, &s.high_frequency_factor,
                      &s.beta_fast, &s.beta_slow, &s.attention_factor})
      round(*x);
    // GGUF has what longrope's extents come to, and not what it follows from.
    if (s.kind == RopeScaling::Kind::longrope) s.attention_factor = static_cast<float>(rope_scale(s));
    round_all(s.short_factors), round_all(s.long_factors);
  }
  for (double* x : {&a.embedding_scale, &a.embedding_norm.epsilon, &a.final_norm.epsilon, &a.logit_scale, &a.logit_cap})
    round(*x);
  return a;
}

Architecture llama(const LlamaShape& shape) {
  const Norm norm{.kind = &kRms};
  Block block;
  block.before_mixer = block.before_ffn = norm;
  block.attention.heads = shape.heads;
  block.attention.kv_heads = shape.kv_heads;
  block.attention.head_dim = shape.head_dim;
  block.ffn.width = shape.ffn_width;
  Architecture a;
  a.family = "llama";
  a.vocab = shape.vocab;
  a.width = shape.width;
  a.context = shape.context;
  a.blocks.assign(static_cast<size_t>(std::max<int64_t>(0, shape.layers)), block);
  a.ropes = {{.rotated = shape.head_dim}};
  a.final_norm = norm;
  return a;
}

std::vector<TensorSpec> tensor_specs(const Architecture& a) {
  SpecList list(a);
  list.all();
  return std::move(list.specs);
}

}  // namespace thimble
