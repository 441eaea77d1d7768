#include "models/gguf_fields.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/warnings.h"

namespace thimble {
namespace {

using enum FieldMeaning;

constexpr std::string_view kOrigin = "it says where the model is from", kExperts = "mixtures of experts are not there",
                           kOther = "it is of another kind of model", kFamily = "this family does not have it here";

// gguf-py, constants.py, Keys.General.
constexpr auto kGeneral = std::to_array<FieldNote>({
    {"architecture"},
    {"alignment"},
    {"sampling.*", warned, "settings of sampling are given as flags"},
    {"type", harmless, kOrigin},
    {"quantization_version", harmless, "each tensor says its type"},
    {"file_type", harmless, "each tensor says its type"},
    {"*", harmless, kOrigin},
});

// The same, Keys.LLM and those under it; rows of families (GgufFamily::fields) go first.
constexpr auto kModel = std::to_array<FieldNote>({
    {"vocab_size", harmless, "the embedding says it"},
    {"context_length"},
    {"embedding_length"},
    {"block_count"},
    {"feed_forward_length"},
    {"attention.head_count"},
    {"attention.head_count_kv"},
    {"attention.key_length"},
    {"attention.value_length"},
    {"attention.layer_norm_epsilon"},
    {"attention.layer_norm_rms_epsilon"},
    {"attention.causal"},
    {"attention.sliding_window_pattern"},
    {"attention.max_alibi_bias"},
    {"expert_count"},
    {"rope.dimension_count"},
    {"rope.freq_base"},
    {"rope.freq_base_swa"},
    {"rope.scale_linear"},
    {"rope.scaling.type"},
    {"rope.scaling.factor"},
    {"rope.scaling.attn_factor"},
    {"rope.scaling.original_context_length"},
    {"rope.scaling.yarn_beta_fast"},
    {"rope.scaling.yarn_beta_slow"},
    {"rope.scaling.finetuned", harmless, "it says how the model was made"},
    {"rope.scaling.yarn_ext_factor", refused, "YaRN is mixed in whole"},
    {"rope.scaling.yarn_attn_factor", refused, "rope.scaling.attn_factor says it"},
    {"rope.scaling.yarn_log_multiplier", refused, kOther},
    {"rope.scaling.alpha", refused, "Hunyuan's scaling is not there"},
    {"rope.dimension_count_swa", refused, "heads of all layers are alike"},
    {"rope.dimension_sections", refused, "positions of images and video are not there"},
    {"tensor_data_layout", harmless, "llama.cpp's converter sets it and nobody reads it"},
    {"use_parallel_residual", harmless, "the norms that are there say it"},
    {"attention.sliding_window", refused, kFamily},
    {"attention.scale", refused, kFamily},
    {"attention.output_scale", refused, kFamily},
    {"attn_logit_softcapping", refused, kFamily},
    {"final_logit_softcapping", refused, kFamily},
    {"logit_scale", refused, kFamily},
    {"residual_scale", refused, kFamily},
    {"embedding_scale", refused, kFamily},
    {"attention.clamp_kqv", refused, "queries, keys and values are not clamped"},
    {"attention.temperature_length", refused, kFamily},
    {"attention.temperature_scale", refused, kFamily},
    {"attention.key_length_*", refused, "heads of all layers are alike"},
    {"attention.value_length_*", refused, "heads of all layers are alike"},
    {"attention.shared_kv_layers", refused, "layers have keys and values of their own"},
    {"attention.group_norm_*", refused, kOther},
    {"attention.relative_buckets_count", refused, kOther},
    {"attention.indexer.*", refused, kOther},
    {"attention.q_lora_rank", refused, kOther},
    {"attention.kv_lora_rank", refused, kOther},
    {"attention.decay_lora_rank", refused, kOther},
    {"attention.iclr_lora_rank", refused, kOther},
    {"attention.value_residual_mix_lora_rank", refused, kOther},
    {"attention.gate_lora_rank", refused, kOther},
    {"expert_*", refused, kExperts},
    {"experts_per_group", refused, kExperts},
    {"moe_*", refused, kExperts},
    {"interleave_moe_layer_step", refused, kExperts},
    {"leading_dense_block_count", refused, kExperts},
    {"router_logit_softcapping", refused, kExperts},
    {"nextn_predict_layers", refused, "layers that predict further tokens are not there"},
    {"n_deepstack_layers", refused, "images are not there"},
    {"pooling_type", harmless, "it is of embeddings of texts"},
    {"decoder_*", refused, "encoders are not there"},
    {"embedding_length_out", refused, kOther},
    {"embedding_length_per_layer_input", refused, kOther},
    {"features_length", refused, kOther},
    {"full_attention_interval", refused, kOther},
    {"activation_sparsity_scale", refused, kOther},
    {"altup.*", refused, kOther},
    {"swiglu_clamp_*", refused, "gates are not clamped"},
    {"swin_norm", refused, kOther},
    {"rescale_every_n_layers", refused, kOther},
    {"time_mix_extra_dim", refused, kOther},
    {"time_decay_extra_dim", refused, kOther},
    {"token_shift_count", refused, kOther},
    {"ssm.*", refused, kOther},
    {"kda.*", refused, kOther},
    {"wkv.*", refused, kOther},
    {"posnet.*", refused, kOther},
    {"convnext.*", refused, kOther},
    {"classifier.*", refused, kOther},
    {"shortconv.*", refused, kOther},
    {"dense_*", refused, kOther},
});

// "attention.sliding_window_pattern": a flag for each block, or every how many blocks one sees everything.
Result<void> check_pattern(const GgufFile& gguf, const std::string& key, const Architecture& a) {
  const GgufValue* const value = gguf.find_value(key);
  if (!value) return {};
  std::vector<int32_t> slides;
  if (std::holds_alternative<GgufArray>(value->value)) {
    slides = TRY(gguf.integers(key));
  } else {
    const int64_t every = std::max<int64_t>(1, TRY(gguf.get<int64_t>(key)));
    for (int64_t layer = 0; layer < a.layers(); ++layer) slides.push_back((layer + 1) % every != 0);
  }
  bool same = slides.size() >= a.blocks.size();
  for (size_t i = 0; same && i < a.blocks.size(); ++i) same = (slides[i] != 0) == (a.blocks[i].attention.window > 0);
  if (same) return {};
  return fail(ErrorCode::unsupported, "reading {}: '{}' is not the pattern that llama.cpp takes for family {}",
              gguf.path(), key, a.family);
}

// What a table cannot say: values that must be what the family takes for granted.
Result<void> check_values(const GgufFile& gguf, const std::string& prefix, const Architecture& a) {
  if (!TRY(gguf.get_or<bool>(prefix + "attention.causal", true)))
    return fail(ErrorCode::unsupported, "reading {}: '{}attention.causal' is false; thimble reads decoders only",
                gguf.path(), prefix);
  const bool alibi = a.blocks.front().attention.bias != Attention::Bias::none;
  const double bias = TRY(gguf.get_or<double>(prefix + "attention.max_alibi_bias", alibi ? 8 : 0));
  if (bias != (alibi ? 8 : 0))
    return fail(ErrorCode::unsupported, "reading {}: '{}attention.max_alibi_bias' is {}; family {} is read with {}",
                gguf.path(), prefix, bias, a.family, alibi ? 8 : 0);
  return check_pattern(gguf, prefix + "attention.sliding_window_pattern", a);
}

// Layers with a window may have a rope of their own in llama.cpp.
Result<void> check_local_base(const GgufFile& gguf, const std::string& prefix, const Family& family) {
  const std::string key = prefix + "rope.freq_base_swa";
  if (family.gguf.local_base == GgufFamily::LocalBase::read || !gguf.find_value(key)) return {};
  const double base = TRY(gguf.get_or<double>(prefix + "rope.freq_base", 10000)), own = TRY(gguf.get<double>(key));
  if (own == base) return {};
  if (family.gguf.local_base == GgufFamily::LocalBase::refused)
    return fail(ErrorCode::unsupported, "reading {}: '{}' is {}: in family {} layers with a window have no other rope",
                gguf.path(), key, own, family.name);
  warn(fmt::format("{}: '{}' {} is not looked at: llama.cpp does not compute with it in family {}", gguf.path(), key,
                   own, family.name));
  return {};
}

}  // namespace

std::span<const FieldNote> gguf_general_fields() { return kGeneral; }
std::span<const FieldNote> gguf_model_fields() { return kModel; }

std::string window_note(const std::string& path, const Family& family, int64_t window) {
  return fmt::format(
      "{}: llama.cpp has no window in models of family {}: on texts of more than {} tokens it says "
      "something else than thimble and transformers",
      path, family.name, window);
}

Result<void> check_gguf_fields(const GgufFile& gguf, const Family& family, const Architecture& a) {
  const std::string prefix = fmt::format("{}.", family.gguf.architecture);
  std::vector<FieldNote> notes;
  for (const GgufField& field : family.gguf.fields) notes.push_back({field.key});
  notes.insert(notes.end(), kModel.begin(), kModel.end());
  CHECK_OK(check_fields(metadata_under(gguf, "general."), kGeneral, gguf.path(), "general."));
  CHECK_OK(check_fields(metadata_under(gguf, prefix), notes, gguf.path(), prefix));
  CHECK_OK(check_local_base(gguf, prefix, family));
  const int64_t window = a.blocks.front().attention.window;
  if (family.gguf.ignores_window && window > 0 && window < a.context) warn(window_note(gguf.path(), family, window));
  return check_values(gguf, prefix, a);
}

}  // namespace thimble
