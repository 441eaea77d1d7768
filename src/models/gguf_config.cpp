#include "models/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/warnings.h"
#include "models/hf_config.h"
#include "models/norm.h"
#include "models/rope_factors.h"
#include "models/rope_frequencies.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

using Kind = RopeScaling::Kind;

// Metadata keys of one architecture: "llama.embedding_length".
class Keys {
 public:
  Keys(const GgufFile& gguf, std::string_view architecture) : gguf_(gguf), prefix_(architecture) {}
  template <class T>
  Result<T> get(std::string_view key) const {
    return gguf_.get<T>(full(key));
  }
  template <class T>
  Result<T> get_or(std::string_view key, T otherwise) const {
    return gguf_.get_or<T>(full(key), std::move(otherwise));
  }
  const GgufValue* find(std::string_view key) const { return gguf_.find_value(full(key)); }
  std::string full(std::string_view key) const { return fmt::format("{}.{}", prefix_, key); }
  const GgufFile& gguf() const { return gguf_; }
  const std::string& path() const { return gguf_.path(); }

 private:
  const GgufFile& gguf_;
  std::string prefix_;
};

Result<std::vector<float>> factors(const GgufFile& gguf, std::string_view name, int64_t count) {
  const GgufTensor* const tensor = gguf.find_tensor(name);
  if (!tensor) return std::vector<float>();
  if (tensor->type != kF32.gguf_type || tensor->shape != Shape{count})
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be f32 of shape [{}], found {} {}", gguf.path(), name,
                count, gguf_tensor_type_name(tensor->type), tensor->shape.text());
  std::vector<float> out(static_cast<size_t>(count));
  CHECK_OK(gguf.file(tensor->part).read(tensor->offset, std::as_writable_bytes(std::span(out))));
  return out;
}

Result<void> add_llama3(const std::vector<float>& divisors, const Keys& keys, double base, Json& rope) {
  const auto scaling = recognise_rope_factors(divisors, base);
  if (!scaling)
    return fail(ErrorCode::unsupported, "reading {}: the divisors in '{}' are not those of Llama 3's rope scaling",
                keys.path(), kRopeFactors);
  if (scaling->kind == Kind::none) return {};
  rope["rope_type"] = "llama3";
  rope["factor"] = scaling->factor;
  rope["original_max_position_embeddings"] = scaling->original_context;
  rope["low_freq_factor"] = scaling->low_frequency_factor;
  rope["high_freq_factor"] = scaling->high_frequency_factor;
  return {};
}

constexpr double kBetaFast = 32, kBetaSlow = 1;

// llama.cpp's common loader does not look at the betas.
Result<void> add_yarn(const Keys& keys, double factor, double extra, int64_t context, Json& rope) {
  rope["original_max_position_embeddings"] = TRY(keys.get_or<int64_t>("rope.scaling.original_context_length", context));
  rope["beta_fast"] = kBetaFast, rope["beta_slow"] = kBetaSlow;
  const double fast = TRY(keys.get_or<double>("rope.scaling.yarn_beta_fast", kBetaFast)),
               slow = TRY(keys.get_or<double>("rope.scaling.yarn_beta_slow", kBetaSlow));
  if (fast != kBetaFast || slow != kBetaSlow)
    warn(fmt::format("{}: '{}' {} and '{}' {} are not looked at: llama.cpp takes {} and {} whatever the file says",
                     keys.path(), keys.full("rope.scaling.yarn_beta_fast"), fast,
                     keys.full("rope.scaling.yarn_beta_slow"), slow, kBetaFast, kBetaSlow));
  // llama.cpp multiplies this with yarn's own 0.1 ln(factor) + 1.
  if (extra != 1) rope["attention_factor"] = extra * (0.1 * std::log(factor) + 1);
  return {};
}

// rope_parameters of one kind of layer. To llama.cpp a file that names no kind of scaling is of the kind "linear", and
// divisors, the factor and the factor of cosines and sines are applied one on the other, whatever the kind: what is
// not one of the kinds known here is refused.
Result<Json> rope_json(const Keys& keys, int64_t rotated, int64_t context) {
  Json rope = Json::object();
  const double base = TRY(keys.get_or<double>("rope.freq_base", 10000));
  rope["rope_theta"] = base;
  rope["rope_type"] = "default";
  const std::vector<float> divisors = TRY(factors(keys.gguf(), kRopeFactors, rotated / 2));
  const std::vector<float> few = TRY(factors(keys.gguf(), kShortFactors, rotated / 2));
  const std::vector<float> many = TRY(factors(keys.gguf(), kLongFactors, rotated / 2));
  const std::string type = TRY(keys.get_or<std::string>("rope.scaling.type", "linear"));
  if (type != "none" && type != "linear" && type != "yarn" && type != "longrope")
    return fail(ErrorCode::unsupported, "reading {}: rope scaling '{}' is not among none, linear, longrope and yarn",
                keys.path(), type);
  const double said = TRY(keys.get_or<double>("rope.scaling.factor", TRY(keys.get_or<double>("rope.scale_linear", 1))));
  const double factor = type == "none" || said == 0 ? 1 : said;
  const double extra = TRY(keys.get_or<double>("rope.scaling.attn_factor", 1));
  const auto not_done = [&](std::string_view what) {
    return fail(ErrorCode::unsupported, "reading {}: {}: this scaling of rope is not done", keys.path(), what);
  };
  if (!few.empty() && !many.empty()) {
    if (factor != 1) return not_done(fmt::format("'{}' and a factor of {}", kLongFactors, factor));
    rope["rope_type"] = "longrope";
    rope["short_factor"] = few, rope["long_factor"] = many;
    rope["original_max_position_embeddings"] =
        TRY(keys.get_or<int64_t>("rope.scaling.original_context_length", context));
    rope["attention_factor"] = extra;  // no other than the file's
    return rope;
  }
  if (type == "longrope")
    return fail(ErrorCode::corrupt, "reading {}: rope scaling is longrope, but '{}' or '{}' is missing", keys.path(),
                kShortFactors, kLongFactors);
  if (type != "yarn" && extra != 1)
    return not_done(fmt::format("'{}' without yarn or longrope", keys.full("rope.scaling.attn_factor")));
  if (!divisors.empty()) {
    if (factor != 1 || type == "yarn") return not_done(fmt::format("'{}' and a factor of {}", kRopeFactors, factor));
    CHECK_OK(add_llama3(divisors, keys, base, rope));
    return rope;
  }
  if (factor == 1 && type != "yarn") return rope;
  rope["rope_type"] = type, rope["factor"] = factor;
  if (type == "yarn") CHECK_OK(add_yarn(keys, factor, extra, context, rope));
  return rope;
}

struct Sizes {
  int64_t head_dim = 0, rotated = 0;
};

// The fields of a config.json that say the same as the metadata.
Result<Json> config_json(const Keys& keys, const Family& family, Sizes& sizes) {
  const GgufFile& gguf = keys.gguf();
  const int64_t width = TRY(keys.get<int64_t>("embedding_length")),
                heads = TRY(keys.get<int64_t>("attention.head_count"));
  // The embedding says how many tokens there are; the key is missing from many files.
  const GgufTensor* const embedding = gguf.find_tensor("token_embd.weight");
  if (!embedding)
    return fail(ErrorCode::corrupt,
                "reading {}: tensor 'token_embd.weight' is missing; is it a vocabulary without a model?", keys.path());
  if (TRY(keys.get_or<int64_t>("expert_count", 0)) > 0)
    return fail(ErrorCode::unsupported,
                "reading {}: the model is a mixture of experts; thimble reads dense models only", keys.path());
  const int64_t context = TRY(keys.get<int64_t>("context_length"));
  sizes.head_dim = TRY(keys.get_or<int64_t>("attention.key_length", heads > 0 ? width / heads : 0));
  sizes.rotated = TRY(keys.get_or<int64_t>("rope.dimension_count", sizes.head_dim));
  const int64_t value_dim = TRY(keys.get_or<int64_t>("attention.value_length", sizes.head_dim));
  if (value_dim != sizes.head_dim)
    return fail(ErrorCode::unsupported,
                "reading {}: heads of values have {} elements and those of keys {}; thimble needs them equal",
                keys.path(), value_dim, sizes.head_dim);
  const SizeFields& names = family.sizes;
  Json json;
  const auto set = [&](std::string_view key, Json value) {
    if (!key.empty()) json[std::string(key)] = std::move(value);
  };
  set("vocab_size", embedding->shape.rows());
  set(names.width, width);
  set(names.heads, heads);
  set(names.layers, TRY(keys.get<int64_t>("block_count")));
  set(names.kv_heads, TRY(keys.get_or<int64_t>("attention.head_count_kv", heads)));
  set(names.head_dim, sizes.head_dim);
  set(names.ffn, TRY(keys.get<int64_t>("feed_forward_length")));
  set(names.context, context);
  set("tie_word_embeddings", gguf.find_tensor("output.weight") == nullptr);
  const Json rope = TRY(rope_json(keys, sizes.rotated, context));
  if (family.gguf.local_rope) {
    const double otherwise =
        family.gguf.local_rope_base > 0 ? family.gguf.local_rope_base : rope["rope_theta"].get<double>();
    json["rope_parameters"]["full_attention"] = rope;
    const bool read = family.gguf.local_base == GgufFamily::LocalBase::read;
    json["rope_parameters"]["sliding_attention"]["rope_theta"] =
        read ? TRY(keys.get_or<double>("rope.freq_base_swa", otherwise)) : otherwise;
  } else {
    json["rope_parameters"] = rope;
  }
  for (const GgufField& field : family.gguf.fields) {
    const GgufValue* const value = keys.find(field.key);
    if (!value) continue;
    if (value->type == GgufType::boolean)
      set(field.config, TRY(keys.get<bool>(field.key)));
    else if (value->type == GgufType::f32 || value->type == GgufType::f64)
      set(field.config, TRY(keys.get<double>(field.key)));
    else if (const auto number = TRY(keys.get<int64_t>(field.key)); number == 0 && field.config == "sliding_window")
      set(field.config, nullptr);  // llama.cpp's way to say that there is none
    else
      set(field.config, number);
  }
  if (family.gguf.from_tensors) family.gguf.from_tensors(gguf, sizes.head_dim, json);
  return json;
}

// What the family's defaults cannot know: the norms' epsilon, which tensors there are, and extents of a head.
Result<void> settle(const Keys& keys, const Sizes& sizes, Architecture& a) {
  const GgufFile& gguf = keys.gguf();
  const auto has = [&](std::string_view name) { return gguf.find_tensor(name) != nullptr; };
  const bool layer = a.final_norm.kind == &kLayer;
  const double epsilon = TRY(keys.get_or<double>(
      layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", layer ? 1e-5 : 0));
  if (epsilon == 0)
    return fail(ErrorCode::corrupt, "reading {}: the metadata key '{}' is missing", keys.path(),
                keys.full("attention.layer_norm_rms_epsilon"));
  a.final_norm.epsilon = a.embedding_norm.epsilon = epsilon;
  for (Block& b : a.blocks) {
    for (Norm* norm : {&b.before_mixer, &b.after_mixer, &b.before_ffn, &b.after_ffn, &b.attention.qk_norm})
      if (*norm) norm->epsilon = epsilon;
    b.attention.head_dim = sizes.head_dim;
    b.attention.qkv_bias = has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias");
    b.attention.output_bias = has("blk.0.attn_output.bias");
    b.ffn.bias = has("blk.0.ffn_down.bias");
  }
  if (!a.embedding_norm) a.embedding_norm = {};
  for (Rope& rope : a.ropes) rope.rotated = sizes.rotated;
  a.head_bias = has("output.bias");
  return {};
}

void add_rope(const Rope& rope, const std::string& prefix, GgufWriter& writer) {
  writer.add_integer(prefix + "rope.dimension_count", static_cast<uint32_t>(rope.rotated));
  writer.add_float(prefix + "rope.freq_base", static_cast<float>(rope.base));
  const RopeScaling& s = rope.scaling;
  if (s.kind != Kind::linear && s.kind != Kind::yarn && s.kind != Kind::longrope) return;  // llama3's is a tensor
  writer.add_string(prefix + "rope.scaling.type", s.kind == Kind::linear ? "linear"
                                                  : s.kind == Kind::yarn ? "yarn"
                                                                         : "longrope");
  if (s.kind != Kind::longrope) writer.add_float(prefix + "rope.scaling.factor", static_cast<float>(s.factor));
  if (s.kind == Kind::linear) return;
  writer.add_integer(prefix + "rope.scaling.original_context_length", static_cast<uint32_t>(s.original_context));
  if (s.kind == Kind::longrope) {
    writer.add_float(prefix + "rope.scaling.attn_factor", static_cast<float>(rope_scale(s)));
    return;
  }
  writer.add_float(prefix + "rope.scaling.yarn_beta_fast", static_cast<float>(s.beta_fast));
  writer.add_float(prefix + "rope.scaling.yarn_beta_slow", static_cast<float>(s.beta_slow));
  if (s.attention_factor != 0) {
    // llama.cpp multiplies this with yarn's own scale.
    const double own = 0.1 * std::log(s.factor) + 1;
    writer.add_float(prefix + "rope.scaling.attn_factor", static_cast<float>(s.attention_factor / own));
  }
}

void add_field(const std::string& key, const nlohmann::ordered_json& value, GgufWriter& writer) {
  if (value.is_boolean()) writer.add_bool(key, value.get<bool>());
  if (value.is_number_integer()) writer.add_integer(key, static_cast<uint32_t>(value.get<int64_t>()));
  if (value.is_number_float()) writer.add_float(key, static_cast<float>(value.get<double>()));
}

constexpr HfName kQkv[] = {{"self_attn.q_proj", "attn_qkv", HfName::Fusion::stacked},
                           {"self_attn.k_proj", "attn_qkv", HfName::Fusion::stacked},
                           {"self_attn.v_proj", "attn_qkv", HfName::Fusion::stacked}};
constexpr HfName kGateUp[] = {{"mlp.gate_proj", "ffn_up", HfName::Fusion::stacked},
                              {"mlp.up_proj", "ffn_up", HfName::Fusion::stacked}};

}  // namespace

Result<const Family*> gguf_family(const GgufFile& gguf) {
  const std::string architecture = TRY(gguf.get<std::string>("general.architecture"));
  const bool window = gguf.find_value(architecture + ".attention.sliding_window") != nullptr;
  const Family* found = nullptr;
  std::string known;
  for (const Family* family : families()) {
    if (family->gguf.architecture.empty()) continue;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", family->gguf.architecture);
    // Of two families in one architecture, the later has the window.
    if (family->gguf.architecture == architecture && (!found || window)) found = family;
  }
  if (found) return found;
  return fail(ErrorCode::unsupported, "reading {}: architecture '{}' is not among {}", gguf.path(), architecture,
              known);
}

Result<Architecture> gguf_architecture(const GgufFile& gguf, const Family& family) {
  const Keys keys(gguf, family.gguf.architecture);
  Sizes sizes;
  const Json json = TRY(config_json(keys, family, sizes));
  const JsonFields fields = TRY(JsonFields::of(json, gguf.path()));
  HfFields reader(family.sizes, fields);
  Architecture a;
  a.family = family.name;
  family.config(reader, a);
  CHECK_OK(reader.result());
  CHECK_OK(settle(keys, sizes, a));
  CHECK_OK(check(a, gguf.path(),
                 {.width = "embedding_length",
                  .layers = "block_count",
                  .heads = "attention.head_count",
                  .kv_heads = "attention.head_count_kv",
                  .head_dim = "attention.key_length",
                  .ffn = "feed_forward_length",
                  .context = "context_length",
                  .window = "attention.sliding_window"}));
  return a;
}

Result<void> add_architecture(const Family& family, const Architecture& a, GgufWriter& writer) {
  const std::string prefix = fmt::format("{}.", family.gguf.architecture);
  const auto add = [&](std::string_view key, int64_t value) {
    writer.add_integer(prefix + std::string(key), static_cast<uint32_t>(value));
  };
  const Block& block = a.blocks.front();
  const Attention& attention = block.attention;
  add("vocab_size", a.vocab);
  add("context_length", a.context);
  add("embedding_length", a.width);
  add("block_count", a.layers());
  add("feed_forward_length", block.ffn.width);
  add("attention.head_count", attention.heads);
  add("attention.head_count_kv", attention.kv_heads);
  if (attention.q_width() != a.width) {
    add("attention.key_length", attention.head_dim);
    add("attention.value_length", attention.head_dim);
  }
  const bool rms = a.final_norm.kind == &kRms;
  writer.add_float(prefix + (rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"),
                   static_cast<float>(a.final_norm.epsilon));
  if (!a.ropes.empty()) add_rope(a.ropes.front(), prefix, writer);
  HfFields config(family.sizes);
  Architecture written = a;
  family.config(config, written);
  for (const GgufField& field : family.gguf.fields)
    if (config.json().contains(field.config))
      add_field(prefix + std::string(field.key), config.json()[field.config], writer);
  return {};
}

FilePlace place_in_gguf(const Family& family, const Architecture& architecture, const TensorSpec& spec) {
  const NameParts parts = split_name(spec.name);
  const std::string prefix = fmt::format("blk.{}.", parts.layer);
  const std::span<const HfName> none;
  for (const auto names : {family.gguf.fused_qkv ? std::span<const HfName>(kQkv) : none,
                           family.gguf.fused_gate_up ? std::span<const HfName>(kGateUp) : none}) {
    const auto own = std::ranges::find(names, parts.module, &HfName::module);
    if (own == names.end()) continue;
    FilePlace place = place_among(names, *own, architecture.blocks[block_of(spec.name)]);
    place.name = fmt::format("{}{}{}", prefix, own->file, parts.suffix);
    return place;
  }
  FilePlace place{.name = gguf_name(spec.name), .rows = spec.shape[0]};
  if (family.gguf.names)
    for (const HfName& name : family.gguf.names(architecture))
      if (name.module == parts.module) place.name = fmt::format("{}{}{}", prefix, name.file, parts.suffix);
  place.run = place.period = place.rows;
  return place;
}

float gguf_shift(const Architecture& a, const TensorSpec& spec) {
  const bool gain = spec.shape.rank() == 1 && spec.name.ends_with(".weight");
  return gain ? static_cast<float>(a.final_norm.offset) : 0;
}

}  // namespace thimble
