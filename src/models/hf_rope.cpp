// Rotary position embedding in config.json: "rope_theta" and "rope_scaling" as versions before 5 of transformers wrote
// them, or all in "rope_parameters", which may hold an object for each kind of layer.
#include <algorithm>
#include <array>
#include <cmath>

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

Result<void> read_yarn(const JsonFields& fields, RopeScaling& scaling) {
  scaling.beta_fast = TRY(fields.get_or<double>("beta_fast", 32));
  scaling.beta_slow = TRY(fields.get_or<double>("beta_slow", 1));
  scaling.truncate = TRY(fields.get_or<bool>("truncate", true));
  scaling.attention_factor = TRY(fields.get_or<double>("attention_factor", 0));
  const double mscale = TRY(fields.get_or<double>("mscale", 0));
  const double all_dim = TRY(fields.get_or<double>("mscale_all_dim", 0));
  if (scaling.attention_factor == 0 && mscale > 0 && all_dim > 0)
    scaling.attention_factor = yarn_scale(scaling.factor, mscale) / yarn_scale(scaling.factor, all_dim);
  return {};
}

// top: the whole file, where Phi-3 keeps the original context.
Result<void> read_scaling(const JsonFields& fields, const JsonFields& top, int64_t context, RopeScaling& scaling) {
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
  if (scaling.kind == Kind::longrope) {
    scaling.original_context = TRY(top.get_or<int64_t>("original_max_position_embeddings", scaling.original_context));
    // The ratio of the context lengths where there is no "factor", as in transformers 5.
    if (scaling.original_context > 0)
      scaling.factor = static_cast<double>(context) / static_cast<double>(scaling.original_context);
    scaling.factor = std::max(1.0, TRY(fields.get_or<double>("factor", scaling.factor)));
    scaling.attention_factor = TRY(fields.get_or<double>("attention_factor", 0));
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
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
      if (!fields_->has(key)) continue;
      JsonFields inner = TRY(fields_->object(key));
      if (!f.layer_type.empty() && inner.has(f.layer_type)) {
        inner = TRY(inner.object(f.layer_type));
      } else {
        // A scaling for all is one for layers with full attention.
        if (f.layer_type == "sliding_attention") continue;
        for (const auto& [name, value] : inner.json().items())
          if (value.is_object())
            return fail(ErrorCode::unsupported,
                        "reading {}: '{}' gives a kind of layer a rope of its own, which this family does not have",
                        inner.source(), name);
      }
      CHECK_OK(check_fields(inner.json(), kRopeFields, inner.source()));
      rope.base = TRY(inner.get_or<double>("rope_theta", rope.base));
      if (!turns_whole) partial = TRY(inner.get_or<double>(kPartialRotary, partial));
      rope.query_growth = TRY(inner.get_or<double>("llama_4_scaling_beta", 0));
      CHECK_OK(read_scaling(inner, *fields_, a.context, rope.scaling));
      if (turns_whole) CHECK_OK(leave_out_part(inner, rope.scaling));
    }
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
    json_["rope_parameters"][std::string(f.layer_type)] = std::move(scaling);
    return;
  }
  json_[std::string(f.base_field)] = rope.base;
  if (!f.partial_field.empty() && (rope.rotated != head_dim || f.partial != 1))
    json_[std::string(f.partial_field)] = static_cast<double>(rope.rotated) / static_cast<double>(head_dim);
  json_["rope_scaling"] = rope.scaling.kind == Kind::none ? nlohmann::ordered_json(nullptr) : std::move(scaling);
}

}  // namespace thimble
