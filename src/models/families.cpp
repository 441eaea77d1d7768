#include "models/families.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "models/router.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

constexpr std::array kFamilies = {
    &kLlamaFamily,   &kMistralFamily, &kMinistralFamily, &kMinistral3Family, &kQwen2Family,      &kQwen3Family,
    &kGpt2Family,    &kGemmaFamily,   &kGemma2Family,    &kGemma3Family,     &kPhiFamily,        &kPhi3Family,
    &kSmollm3Family, &kOlmo2Family,   &kOlmo3Family,     &kGraniteFamily,    &kGptNeoxFamily,    &kOptFamily,
    &kBloomFamily,   &kGptjFamily,    &kFalconFamily,    &kStablelmFamily,   &kStarcoder2Family, &kCohere2Family,
    &kGlm4Family,    &kExaone4Family, &kNemotronFamily,  &kThimbleFamily,    &kMixtralFamily,    &kOlmoeFamily,
    &kQwen3MoeFamily};

// Rows of one of the modules that share a tensor, of a weight or bias of theirs.
int64_t rows_of(const Block& block, std::string_view module) {
  if (module == "self_attn.q_proj") return block.attention.q_width();
  if (module == "self_attn.k_proj" || module == "self_attn.v_proj") return block.attention.kv_width();
  return block.ffn.width;
}

}  // namespace

std::span<const Family* const> families() { return kFamilies; }

const Family* find_family(std::string_view name) {
  const auto found = std::find_if(kFamilies.begin(), kFamilies.end(), [&](const Family* f) { return f->name == name; });
  return found == kFamilies.end() ? nullptr : *found;
}

FilePlace place_among(std::span<const HfName> names, const HfName& module, const Block& block) {
  const int64_t parts = module.fusion == HfName::Fusion::by_head ? block.attention.kv_heads : 1;
  FilePlace place;
  place.run = rows_of(block, module.module) / parts;
  for (const HfName& other : names) {
    if (other.file != module.file) continue;
    const int64_t rows = rows_of(block, other.module);
    if (other.module == module.module) place.first = place.period;
    place.period += rows / parts;
    place.rows += rows;
  }
  return place;
}

namespace {

// "mlp.experts.3.up_proj" as "mlp.experts.*.up_proj", and the number; other names as they are.
std::pair<std::string, std::string> without_expert(std::string_view module) {
  constexpr std::string_view kExperts = ".experts.";
  const size_t at = module.find(kExperts);
  if (at == std::string_view::npos) return {std::string(module), ""};
  const size_t begin = at + kExperts.size(), end = std::min(module.find('.', begin), module.size());
  return {fmt::format("{}*{}", module.substr(0, begin), module.substr(end)),
          std::string(module.substr(begin, end - begin))};
}

}  // namespace

FilePlace place_in_file(const Family& family, const Architecture& architecture, const TensorSpec& spec) {
  const NameParts parts = split_name(spec.name);
  const std::span<const HfName> names = family.names ? family.names(architecture) : std::span<const HfName>();
  const auto [general, expert] = without_expert(parts.module);
  const auto found = std::find_if(names.begin(), names.end(),
                                  [&general = general](const HfName& name) { return name.module == general; });
  std::string module(found == names.end() ? parts.module : found->file);
  if (found != names.end() && !expert.empty()) module.replace(module.find('*'), 1, expert);
  const bool fused = found != names.end() && found->fusion != HfName::Fusion::none;
  const int64_t rows = spec.shape[0];
  FilePlace place = fused ? place_among(names, *found, architecture.blocks[block_of(spec.name)])
                          : FilePlace{.rows = rows, .run = rows, .period = rows};
  place.name = parts.layer.empty() ? fmt::format("{}{}", module, parts.suffix)
                                   : fmt::format("{}{}.{}{}", family.blocks, parts.layer, module, parts.suffix);
  place.transposed = family.transposed && !parts.layer.empty() && spec.shape.rank() == 2;
  return place;
}

void llama_like(HfFields& f, Architecture& a, Block& b, const LlamaLike& like) {
  f.sizes(a, b);
  Norm norm = like.norm;
  norm.epsilon = f.reads() ? like.epsilon : a.final_norm.epsilon;
  if (!like.epsilon_field.empty()) f.field(like.epsilon_field, norm.epsilon, like.epsilon);
  if (!like.activation_field.empty()) f.activation(like.activation_field, b.ffn, like.activation);
  f.field("tie_word_embeddings", a.tied, like.tied);
  if (!f.reads()) return;
  if (like.activation_field.empty()) b.ffn.activation = activation_named(like.activation);
  b.before_mixer = b.before_ffn = a.final_norm = norm;
  b.ffn.mixer = like.ffn;
}

void gemma_like(HfFields& f, Architecture& a, Block& b, LlamaLike like) {
  like.norm.offset = 1;
  like.tied = true;
  llama_like(f, a, b, like);
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  f.only("use_bidirectional_attention", false);
  if (f.reads()) a.embedding_scale = std::sqrt(static_cast<double>(a.width));
}

std::span<const HfName> gemma_names(const Architecture&) {
  static constexpr HfName kNames[] = {{"post_self_attn_layernorm", "post_attention_layernorm"},
                                      {"post_attention_layernorm", "pre_feedforward_layernorm"},
                                      {"post_mlp_layernorm", "post_feedforward_layernorm"}};
  return kNames;
}

std::span<const HfName> olmo_names(const Architecture&) {
  static constexpr HfName kNames[] = {{"post_self_attn_layernorm", "post_attention_layernorm"},
                                      {"post_mlp_layernorm", "post_feedforward_layernorm"}};
  return kNames;
}

void gemma_scale(int64_t head_dim, int64_t most_layers, Json& config) {
  const int64_t heads = config["num_attention_heads"].get<int64_t>();
  const bool largest = config["num_hidden_layers"].get<int64_t>() == most_layers;
  config["query_pre_attn_scalar"] = largest && heads > 0 ? config["hidden_size"].get<int64_t>() / heads : head_dim;
}

void gemma_attention(HfFields& f, Architecture& a, Block& b, const GemmaCaps& caps) {
  const double scale = b.attention.scale;
  double scalar = scale > 0 ? 1 / (scale * scale) : 256;
  f.field("query_pre_attn_scalar", scalar, 256);
  const double whole = std::round(scalar);  // transformers takes no other, and no 256.0
  if (!f.reads() && std::abs(scalar - whole) < 1e-9 * whole)
    f.json()["query_pre_attn_scalar"] = static_cast<int64_t>(whole);
  if (f.reads()) b.attention.scale = 1 / std::sqrt(scalar);
  // Of a cap, null means none and an absent field means the default.
  const auto cap = [&](const char* key, double& value, double otherwise) {
    if (!f.reads() && value == 0) return void(f.json()[key] = nullptr);
    const bool null = f.reads() && f.source().json().contains(key) && !f.says(key);
    f.field(key, value, null ? 0 : otherwise);
  };
  if (caps.caps_scores) cap("attn_logit_softcapping", b.attention.cap, caps.score_cap);
  cap("final_logit_softcapping", a.logit_cap, caps.logit_cap);
}

void olmo_like(HfFields& f, Architecture& a, Block& b) {
  llama_like(f, a, b, {.epsilon = 1e-5});
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  if (!f.reads()) return;
  b.before_mixer = b.before_ffn = {};
  b.after_mixer = b.after_ffn = b.attention.qk_norm = a.final_norm;
  b.attention.qk_norm_over = Attention::NormOver::row;
}

void router_training(HfFields& f) {
  f.harmless({"router_aux_loss_coef", "output_router_logits", "router_jitter_noise"},
             "a loss beside the objective is for models that thimble makes");
}

void routed(HfFields& f, Routing& r, const RoutedFields& names) {
  f.field(names.experts, r.experts, names.default_experts);
  f.field("num_experts_per_tok", r.chosen, names.default_chosen);
  bool normalised = r.router == &kTopKRouter;
  f.field("norm_topk_prob", normalised, false);
  if (f.reads()) r.router = normalised ? &kTopKRouter : &kSoftmaxTopKRouter;
  router_training(f);
}

std::span<const HfName> router_names(const Architecture&) {
  static constexpr HfName kNames[] = {{"mlp.router", "mlp.gate"}};
  return kNames;
}

void qwen_windows(HfFields& f, Architecture& a) {
  bool use = false;
  int64_t from = a.layers();
  for (int64_t i = 0; !f.reads() && i < a.layers() && !use; ++i) {
    use = a.blocks[static_cast<size_t>(i)].attention.window > 0;
    if (use) from = i;
  }
  f.field("use_sliding_window", use, false);
  f.field("max_window_layers", from, 28);
  f.windows(a, 4096, [use, from](int64_t layer) { return use && layer >= from; });
  if (!f.reads() || use) return;
  for (Block& block : a.blocks) {
    if (block.attention.window > 0)
      return f.refuse("'layer_types' has layers with sliding_attention, but 'use_sliding_window' is false");
  }
}

}  // namespace thimble
