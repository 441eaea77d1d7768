// Rotary position embedding in config.json: "rope_theta" and "rope_scaling" as versions before 5 of transformers wrote
// them, or all in "rope_parameters", which may hold an object for each kind of layer.
#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/warnings.h"
#include "models/hf_fields.h"

namespace thimble {
namespace {

using Kind = RopeScaling::Kind;

struct NamedKind {
  std::string_view name;
  Kind kind;
};
// The first row of a kind has the name that is written.
constexpr auto kKinds = std::to_array<NamedKind>({{"default", Kind::none},
                                                  {"linear", Kind::linear},
                                                  {"dynamic", Kind::dynamic},
                                                  {"llama3", Kind::llama3},
                                                  {"yarn", Kind::yarn},
                                                  {"longrope", Kind::longrope},
                                                  {"su", Kind::longrope}});

constexpr std::string_view kParameters = "rope_parameters", kScaling = "rope_scaling", kFull = "full_attention";

// YaRN's scale of attention for DeepSeek's spelling (mscale), as in transformers.
double yarn_scale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

// Of "rope_scaling" and "rope_parameters"; each kind of scaling reads those that it has.
constexpr auto kRopeFields = std::to_array<FieldNote>({
    {"rope_type"},
    {"type"},
    {"rope_theta"},
    {kPartialRotary},
    {"factor"},
    {"original_max_position_embeddings"},
    {"attention_factor"},
    {"beta_fast"},
    {"beta_slow"},
    {"truncate"},
    {"mscale"},
    {"mscale_all_dim"},
    {"low_freq_factor"},
    {"high_freq_factor"},
    {"short_factor"},
    {"long_factor"},
    {"llama_4_scaling_beta"},
    {"finetuned", FieldMeaning::harmless, "it says how the model was made"},
    {"mrope_section", FieldMeaning::refused, "positions of images and video are not there"},
    {"mrope_interleaved", FieldMeaning::refused, "positions of images and video are not there"},
    {"short_mscale", FieldMeaning::refused, "only attention_factor scales cos and sin"},
    {"long_mscale", FieldMeaning::refused, "only attention_factor scales cos and sin"},
    {"alpha", FieldMeaning::refused, "Hunyuan's scaling is not there"},
});

Result<std::vector<double>> numbers(const JsonFields& fields, std::string_view key) {
  const Json* const json = fields.find(key);
  std::vector<double> out;
  for (const Json& j : json && json->is_array() ? *json : Json::array()) {
    if (!j.is_number()) return fail(ErrorCode::corrupt, "reading {}: '{}' should be numbers", fields.source(), key);
    out.push_back(j.get<double>());
  }
  return out;
}

// 0 where the file says none: then it follows from the factor.
Result<double> attention_factor(const JsonFields& fields) {
  const double factor = TRY(fields.get_or<double>("attention_factor", 0));
  if (factor != 0 || !fields.has("attention_factor")) return factor;
  return fail(ErrorCode::unsupported, "reading {}: 'attention_factor' is 0: it would take all positions out",
              fields.source());
}

Result<void> read_yarn(const JsonFields& fields, RopeScaling& scaling) {
  scaling.beta_fast = TRY(fields.get_or<double>("beta_fast", 32));
  scaling.beta_slow = TRY(fields.get_or<double>("beta_slow", 1));
  scaling.truncate = TRY(fields.get_or<bool>("truncate", true));
  scaling.attention_factor = TRY(attention_factor(fields));
  const double mscale = TRY(fields.get_or<double>("mscale", 0));
  const double all_dim = TRY(fields.get_or<double>("mscale_all_dim", 0));
  if (scaling.attention_factor == 0 && mscale > 0 && all_dim > 0)
    scaling.attention_factor = yarn_scale(scaling.factor, mscale) / yarn_scale(scaling.factor, all_dim);
  return {};
}

// original_context: what the file says beside the rope; 0: nothing.
Result<void> read_scaling(const JsonFields& fields, int64_t original_context, int64_t context, RopeScaling& scaling) {
  const std::string old_spelling = TRY(fields.get_or<std::string>("type", "default"));
  const std::string type = TRY(fields.get_or<std::string>("rope_type", old_spelling));
  const auto row =
      std::find_if(kKinds.begin(), kKinds.end(), [&](const NamedKind& known) { return known.name == type; });
  if (row == kKinds.end())
    return fail(ErrorCode::unsupported,
                "reading {}: rope scaling '{}' is not among default, linear, dynamic, llama3, yarn and longrope",
                fields.source(), type);
  scaling.kind = row->kind;
  if (scaling.kind == Kind::none) return {};
  scaling.original_context = TRY(fields.get_or<int64_t>("original_max_position_embeddings", context));
  if (original_context != 0) scaling.original_context = original_context;
  if (scaling.kind == Kind::longrope) {
    // The ratio of the context lengths where there is no "factor", as in transformers 5.
    if (scaling.original_context > 0)
      scaling.factor = static_cast<double>(context) / static_cast<double>(scaling.original_context);
    scaling.factor = std::max(1.0, TRY(fields.get_or<double>("factor", scaling.factor)));
    scaling.attention_factor = TRY(attention_factor(fields));
    scaling.short_factors = TRY(numbers(fields, "short_factor"));
    scaling.long_factors = TRY(numbers(fields, "long_factor"));
    return {};
  }
  scaling.factor = TRY(fields.get<double>("factor"));
  switch (scaling.kind) {
    case Kind::linear:
      scaling.original_context = 0;
      return {};
    case Kind::dynamic:
      scaling.original_context = context;
      return {};
    case Kind::yarn:
      return read_yarn(fields, scaling);
    default:
      scaling.low_frequency_factor = TRY(fields.get<double>("low_freq_factor"));
      scaling.high_frequency_factor = TRY(fields.get<double>("high_freq_factor"));
      return {};
  }
}

// Of a family whose whole heads turn. transformers leaves the part out of its default frequencies, but not out of
// scaled ones, which are then too few for a head: it has no result to agree with.
Result<void> leave_out_part(const JsonFields& fields, const RopeScaling& scaling) {
  const double partial = TRY(fields.get_or<double>(kPartialRotary, 1));
  if (partial == 1) return {};
  if (scaling.kind != Kind::none)
    return fail(ErrorCode::unsupported,
                "reading {}: '{}' is {} beside a scaling of rope, but whole heads turn in this family and transformers "
                "cannot run it either; take the field out",
                fields.source(), kPartialRotary, partial);
  warn(fmt::format("{}: '{}' is {}: not used, as in transformers, where whole heads turn in this family",
                   fields.source(), kPartialRotary, partial));
  return {};
}

Result<Json> object_or_empty(const JsonFields& fields, std::string_view key) {
  if (!fields.has(key)) return Json::object();
  return TRY(fields.object(key)).json();
}

// The rope of a family with one for all layers: "rope_scaling" goes first, whole.
Result<Json> rope_of_all(const JsonFields& fields) {
  Json parameters = TRY(object_or_empty(fields, kParameters)), scaling = TRY(object_or_empty(fields, kScaling));
  if (!scaling.empty() && !parameters.empty() && parameters != scaling)
    warn(fmt::format("{}: '{}' is not used beside '{}', as in transformers", fields.source(), kParameters, kScaling));
  Json chosen = scaling.empty() ? std::move(parameters) : std::move(scaling);
  for (const auto& [name, value] : chosen.items())
    if (value.is_object())
      return fail(ErrorCode::unsupported,
                  "reading {}: '{}' gives a kind of layer a rope of its own, which this family does not have",
                  fields.source(), name);
  return chosen;
}

// The rope of one kind of layer: an object of "rope_parameters"; "rope_scaling" adds to that of full attention.
Result<Json> rope_of_kind(const JsonFields& fields, std::string_view layer_type) {
  const Json parameters = TRY(object_or_empty(fields, kParameters));
  const JsonFields kinds = TRY(JsonFields::of(parameters, fields.source()));
  Json chosen = TRY(object_or_empty(kinds, layer_type));
  if (chosen.erase("truncate") > 0)
    warn(fmt::format("{}: 'truncate' of '{}' is not used, as in transformers", fields.source(), layer_type));
  if (layer_type != kFull) return chosen;
  const auto is_object = [](const Json& j) { return j.is_object(); };
  if (!parameters.empty() && std::none_of(parameters.begin(), parameters.end(), is_object))
    warn(fmt::format("{}: '{}' has no object for each kind of layer: not used, as in transformers", fields.source(),
                     kParameters));
  const Json scaling = TRY(object_or_empty(fields, kScaling));
  if (std::any_of(scaling.begin(), scaling.end(), is_object))
    return fail(ErrorCode::unsupported, "reading {}: '{}' has objects for kinds of layers; they belong into '{}'",
                fields.source(), kScaling, kParameters);
  if (scaling.contains("type") && !scaling.contains("rope_type") && scaling["type"] != "default")
    return fail(ErrorCode::unsupported,
                "reading {}: transformers overlooks the 'type' of '{}' in this family; call it 'rope_type'",
                fields.source(), kScaling);
  chosen.update(scaling);
  return chosen;
}

nlohmann::ordered_json scaling_json(const Rope& rope) {
  const RopeScaling& s = rope.scaling;
  const auto row =
      std::find_if(kKinds.begin(), kKinds.end(), [&](const NamedKind& known) { return known.kind == s.kind; });
  nlohmann::ordered_json json;
  json["rope_type"] = row->name;
  if (s.kind == Kind::none) return json;
  json["factor"] = s.factor;
  if (s.kind == Kind::linear || s.kind == Kind::dynamic) return json;
  json["original_max_position_embeddings"] = s.original_context;
  if (s.kind == Kind::llama3) {
    json["low_freq_factor"] = s.low_frequency_factor;
    json["high_freq_factor"] = s.high_frequency_factor;
    return json;
  }
  if (s.attention_factor != 0) json["attention_factor"] = s.attention_factor;
  if (s.kind == Kind::longrope) {
    json["short_factor"] = s.short_factors;
    json["long_factor"] = s.long_factors;
    return json;
  }
  json["beta_fast"] = s.beta_fast;
  json["beta_slow"] = s.beta_slow;
  if (!s.truncate) json["truncate"] = false;
  if (rope.query_growth != 0) json["llama_4_scaling_beta"] = rope.query_growth;
  return json;
}

}  // namespace

void HfFields::rope(Architecture& a, const Block& block, const RopeFields& f, size_t which) {
  for (const std::string_view key :
       {std::string_view("rope_scaling"), std::string_view("rope_parameters"), f.base_field, f.partial_field})
    if (!key.empty()) note(key, {});
  if (f.layer_type.empty() && says("original_max_position_embeddings")) note("original_max_position_embeddings", {});
  const bool turns_whole = f.partial_field.empty();
  if (turns_whole) note(kPartialRotary, {});
  if (!error_) return;
  if (!reads()) return write_rope(a.ropes[which], block.attention.head_dim, f);
  Rope rope;
  // Every step may fail: the first failure is kept.
  const auto read = [&]() -> Result<void> {
    rope.base = f.base;
    if (!f.base_field.empty()) rope.base = TRY(fields_->get_or<double>(f.base_field, f.base));
    double partial = turns_whole ? 1 : TRY(fields_->get_or<double>(f.partial_field, f.partial));
    const Json object = TRY(f.layer_type.empty() ? rope_of_all(*fields_) : rope_of_kind(*fields_, f.layer_type));
    const JsonFields inner = TRY(JsonFields::of(object, fields_->source()));
    CHECK_OK(check_fields(object, kRopeFields, inner.source()));
    rope.base = TRY(inner.get_or<double>("rope_theta", rope.base));
    if (!turns_whole) partial = TRY(inner.get_or<double>(kPartialRotary, partial));
    rope.query_growth = TRY(inner.get_or<double>("llama_4_scaling_beta", 0));
    // Beside the rope it goes first, but not where each kind of layer has a rope.
    int64_t original = 0;
    if (f.layer_type.empty())
      original = TRY(fields_->get_or<int64_t>("original_max_position_embeddings", f.original_context));
    CHECK_OK(read_scaling(inner, original, a.context, rope.scaling));
    if (turns_whole) CHECK_OK(leave_out_part(inner, rope.scaling));
    if (turns_whole) CHECK_OK(leave_out_part(*fields_, rope.scaling));
    rope.rotated = static_cast<int64_t>(static_cast<double>(block.attention.head_dim) * partial);
    return {};
  };
  error_ = read();
  a.ropes.resize(std::max(a.ropes.size(), which + 1));
  a.ropes[which] = std::move(rope);
}

void HfFields::write_rope(const Rope& rope, int64_t head_dim, const RopeFields& f) {
  nlohmann::ordered_json scaling = scaling_json(rope);
  if (!f.layer_type.empty()) {
    scaling["rope_theta"] = rope.base;
    (*json_)["rope_parameters"][std::string(f.layer_type)] = std::move(scaling);
    return;
  }
  (*json_)[std::string(f.base_field)] = rope.base;
  if (!f.partial_field.empty() && (rope.rotated != head_dim || f.partial != 1))
    (*json_)[std::string(f.partial_field)] = static_cast<double>(rope.rotated) / static_cast<double>(head_dim);
  (*json_)["rope_scaling"] = rope.scaling.kind == Kind::none ? nlohmann::ordered_json(nullptr) : std::move(scaling);
}

}  // namespace thimble
