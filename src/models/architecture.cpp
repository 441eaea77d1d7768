#include "models/architecture.h"

#include <cmath>
#include <string_view>

namespace thimble {
namespace {

struct Bound {
  std::string_view what;
  int64_t value;
  int64_t largest;
};

// Bounds that no model comes near, and under which no product of two of them leaves int64.
Result<void> check_extents(const Architecture& a, const std::string& source) {
  const Bound bounds[] = {
      {"vocabulary size", a.vocab, int64_t{1} << 24}, {"model width", a.width, int64_t{1} << 20},
      {"number of layers", a.layers, 4096},           {"number of heads", a.heads, 1 << 14},
      {"number of kv heads", a.kv_heads, 1 << 14},    {"head dimension", a.head_dim, 1 << 14},
      {"FFN width", a.ffn_width, int64_t{1} << 22},   {"context length", a.context, int64_t{1} << 30}};
  for (const Bound& bound : bounds) {
    if (bound.value < 1 || bound.value > bound.largest) {
      return fail(ErrorCode::invalid_argument, "reading {}: the {} should be in 1..{}, found {}", source, bound.what,
                  bound.largest, bound.value);
    }
  }
  if (a.window < 0) {
    return fail(ErrorCode::invalid_argument, "reading {}: the attention window should not be negative, found {}",
                source, a.window);
  }
  return {};
}

Result<void> check_rope(const Architecture& a, const std::string& source) {
  if (a.position != Architecture::Position::rope) return {};
  if (a.head_dim % 2 != 0) {
    return fail(ErrorCode::invalid_argument, "reading {}: rope needs an even head dimension, found {}", source,
                a.head_dim);
  }
  if (!std::isfinite(a.rope_base) || a.rope_base <= 0) {
    return fail(ErrorCode::invalid_argument, "reading {}: the rope base should be positive, found {}", source,
                a.rope_base);
  }
  const RopeScaling& s = a.rope_scaling;
  if (s.kind == RopeScaling::Kind::none) return {};
  if (!std::isfinite(s.factor) || s.factor < 1) {
    return fail(ErrorCode::invalid_argument, "reading {}: the rope scaling factor should be at least 1, found {}",
                source, s.factor);
  }
  if (s.kind == RopeScaling::Kind::linear) return {};
  if (s.original_context < 1 || s.original_context > (int64_t{1} << 30)) {
    return fail(ErrorCode::invalid_argument, "reading {}: rope scaling needs the original context length, found {}",
                source, s.original_context);
  }
  const bool ordered = s.kind == RopeScaling::Kind::llama3
                           ? s.low_frequency_factor > 0 && s.high_frequency_factor > s.low_frequency_factor
                           : s.beta_slow > 0 && s.beta_fast > s.beta_slow && s.attention_factor >= 0;
  if (!ordered) {
    return fail(ErrorCode::invalid_argument, "reading {}: the {} of rope scaling should be positive and in order",
                source,
                s.kind == RopeScaling::Kind::llama3 ? "low and high frequency factors" : "beta_slow and beta_fast");
  }
  return {};
}

class SpecList {
 public:
  explicit SpecList(const Architecture& a) : a_(a) {}

  void norm(const std::string& name, int64_t width) {
    specs.push_back({name + ".weight", {width}});
    if (a_.norm == Architecture::Norm::layer) specs.push_back({name + ".bias", {width}});
  }
  void linear(const std::string& name, int64_t out, int64_t in, bool bias) {
    specs.push_back({name + ".weight", {out, in}});
    if (bias) specs.push_back({name + ".bias", {out}});
  }
  void block(int64_t layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    norm(prefix + "input_layernorm", a_.width);
    linear(prefix + "self_attn.q_proj", a_.q_width(), a_.width, a_.qkv_bias);
    linear(prefix + "self_attn.k_proj", a_.kv_width(), a_.width, a_.qkv_bias);
    linear(prefix + "self_attn.v_proj", a_.kv_width(), a_.width, a_.qkv_bias);
    if (a_.qk_norm) {
      specs.push_back({prefix + "self_attn.q_norm.weight", {a_.head_dim}});
      specs.push_back({prefix + "self_attn.k_norm.weight", {a_.head_dim}});
    }
    linear(prefix + "self_attn.o_proj", a_.width, a_.q_width(), a_.linear_bias);
    norm(prefix + "post_attention_layernorm", a_.width);
    if (a_.gated()) linear(prefix + "mlp.gate_proj", a_.ffn_width, a_.width, a_.linear_bias);
    linear(prefix + "mlp.up_proj", a_.ffn_width, a_.width, a_.linear_bias);
    linear(prefix + "mlp.down_proj", a_.width, a_.ffn_width, a_.linear_bias);
  }

  std::vector<TensorSpec> specs;

 private:
  const Architecture& a_;
};

}  // namespace

Result<void> check(const Architecture& a, const std::string& source) {
  CHECK_OK(check_extents(a, source));
  if (a.heads % a.kv_heads != 0) {
    return fail(ErrorCode::invalid_argument, "reading {}: {} heads can not share {} kv heads evenly", source, a.heads,
                a.kv_heads);
  }
  if (a.q_width() > (int64_t{1} << 20)) {
    return fail(ErrorCode::invalid_argument, "reading {}: {} heads of {} elements are wider than {}", source, a.heads,
                a.head_dim, 1 << 20);
  }
  // Written so that NaN fails too.
  if (!(a.norm_epsilon > 0 && a.norm_epsilon < 1)) {
    return fail(ErrorCode::invalid_argument, "reading {}: the norm's epsilon should be between 0 and 1, found {}",
                source, a.norm_epsilon);
  }
  return check_rope(a, source);
}

std::vector<TensorSpec> tensor_specs(const Architecture& a) {
  SpecList list(a);
  list.specs.push_back({"model.embed_tokens.weight", {a.vocab, a.width}});
  if (a.position == Architecture::Position::learned) {
    list.specs.push_back({"model.embed_positions.weight", {a.context, a.width}});
  }
  for (int64_t layer = 0; layer < a.layers; ++layer) list.block(layer);
  list.norm("model.norm", a.width);
  if (!a.tied) list.specs.push_back({"lm_head.weight", {a.vocab, a.width}});
  return std::move(list.specs);
}

}  // namespace thimble
