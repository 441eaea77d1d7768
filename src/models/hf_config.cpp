#include "models/hf_config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/nearest.h"
#include "files/file.h"
#include "files/json.h"
#include "models/hf_families.h"

namespace thimble {
namespace {

using Kind = RopeScaling::Kind;

// YaRN's scale of attention for DeepSeek's spelling (mscale), as in transformers.
double yarn_scale(double factor, double mscale) { return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1; }

Result<void> read_yarn(const JsonFields& fields, RopeScaling& scaling) {
  scaling.beta_fast = TRY(fields.get_or<double>("beta_fast", 32));
  scaling.beta_slow = TRY(fields.get_or<double>("beta_slow", 1));
  scaling.attention_factor = TRY(fields.get_or<double>("attention_factor", 0));
  const double mscale = TRY(fields.get_or<double>("mscale", 0));
  const double all_dim = TRY(fields.get_or<double>("mscale_all_dim", 0));
  if (scaling.attention_factor == 0 && mscale > 0 && all_dim > 0) {
    scaling.attention_factor = yarn_scale(scaling.factor, mscale) / yarn_scale(scaling.factor, all_dim);
  }
  if (!TRY(fields.get_or<bool>("truncate", true))) {
    return fail(ErrorCode::unsupported, "reading {}: yarn with 'truncate' false is not supported", fields.source());
  }
  return {};
}

// `fields` is rope_scaling, or rope_parameters of transformers 5, which holds rope_theta too.
Result<void> read_rope_scaling(const JsonFields& fields, Architecture& a) {
  a.rope_base = TRY(fields.get_or<double>("rope_theta", a.rope_base));
  if (TRY(fields.get_or<double>("partial_rotary_factor", 1)) != 1) {
    return fail(ErrorCode::unsupported, "reading {}: 'partial_rotary_factor' other than 1 is not supported",
                fields.source());
  }
  for (const auto& [key, value] : fields.json().items()) {
    if (value.is_object()) {
      return fail(ErrorCode::unsupported,
                  "reading {}: '{}' gives a kind of layer a rope of its own, which is not "
                  "supported",
                  fields.source(), key);
    }
  }
  const std::string old_spelling = TRY(fields.get_or<std::string>("type", "default"));
  const std::string type = TRY(fields.get_or<std::string>("rope_type", old_spelling));
  if (type == "default") return {};
  RopeScaling& scaling = a.rope_scaling;
  if (type != "linear" && type != "llama3" && type != "yarn") {
    return fail(ErrorCode::unsupported, "reading {}: rope scaling '{}' is not among default, linear, llama3 and yarn",
                fields.source(), type);
  }
  scaling.kind = type == "linear" ? Kind::linear : type == "llama3" ? Kind::llama3 : Kind::yarn;
  scaling.factor = TRY(fields.get<double>("factor"));
  if (scaling.kind == Kind::linear) return {};
  scaling.original_context = TRY(fields.get_or<int64_t>("original_max_position_embeddings", a.context));
  if (scaling.kind == Kind::yarn) return read_yarn(fields, scaling);
  scaling.low_frequency_factor = TRY(fields.get<double>("low_freq_factor"));
  scaling.high_frequency_factor = TRY(fields.get<double>("high_freq_factor"));
  return {};
}

Result<void> read_rope(const JsonFields& fields, Architecture& a) {
  a.rope_base = TRY(fields.get_or<double>("rope_theta", 10000));
  if (TRY(fields.get_or<double>("partial_rotary_factor", 1)) != 1) {
    return fail(ErrorCode::unsupported, "reading {}: 'partial_rotary_factor' other than 1 is not supported",
                fields.source());
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (fields.has(key)) CHECK_OK(read_rope_scaling(TRY(fields.object(key)), a));
  }
  return {};
}

// Mistral's window is always in use, Qwen's only when the config says so, and then from layer max_window_layers on.
Result<void> read_window(const JsonFields& fields, const HfFamily& family, Architecture& a) {
  if (family.window == HfFamily::Window::never) return {};
  if (family.window == HfFamily::Window::always) {
    // null means none, an absent field means the default.
    const bool is_null = fields.json().contains("sliding_window") && !fields.has("sliding_window");
    a.window = is_null ? 0 : TRY(fields.get_or<int64_t>("sliding_window", 4096));
    return {};
  }
  if (!TRY(fields.get_or<bool>("use_sliding_window", false))) return {};
  const int64_t from = TRY(fields.get_or<int64_t>("max_window_layers", 28));
  if (from >= a.layers) return {};
  if (from > 0) {
    return fail(ErrorCode::unsupported,
                "reading {}: layers from {} on have a window and those before have none; "
                "thimble supports one window for all layers",
                fields.source(), from);
  }
  a.window = TRY(fields.get_or<int64_t>("sliding_window", 4096));
  return {};
}

Result<void> read_biases(const JsonFields& fields, const HfFamily& family, Architecture& a) {
  const bool attention = TRY(fields.get_or<bool>("attention_bias", false));
  const bool ffn = TRY(fields.get_or<bool>("mlp_bias", false));
  const bool possible = a.family == "llama" ? attention == ffn : !attention && !ffn;
  if (!possible) {
    return fail(ErrorCode::unsupported, "reading {}: attention_bias {} with mlp_bias {} is not supported for {}",
                fields.source(), attention, ffn, a.family);
  }
  a.qkv_bias = family.qkv_bias || attention;
  a.linear_bias = ffn;
  return {};
}

Result<void> read_activation(const JsonFields& fields, std::string_view key, std::string_view otherwise, bool gated,
                             Architecture& a) {
  const std::string text = TRY(fields.get_or<std::string>(key, std::string(otherwise)));
  std::string known;
  for (const HfActivation& activation : hf_activations()) {
    if (activation.gated != gated) continue;
    if (text == activation.name) return a.ffn = activation.ffn, Result<void>();
    known += fmt::format("{}{}", known.empty() ? "" : ", ", activation.name);
  }
  return fail(ErrorCode::unsupported, "reading {}: '{}' is '{}', which is not among {}", fields.source(), key, text,
              known);
}

Result<Architecture> read_llama_like(const JsonFields& fields, const HfFamily& family) {
  Architecture a;
  a.family = family.name;
  a.vocab = TRY(fields.get<int64_t>("vocab_size"));
  a.width = TRY(fields.get<int64_t>("hidden_size"));
  a.layers = TRY(fields.get<int64_t>("num_hidden_layers"));
  a.heads = TRY(fields.get<int64_t>("num_attention_heads"));
  a.kv_heads = TRY(fields.get_or<int64_t>("num_key_value_heads", family.kv_heads ? family.kv_heads : a.heads));
  a.ffn_width = TRY(fields.get<int64_t>("intermediate_size"));
  a.context = TRY(fields.get_or<int64_t>("max_position_embeddings", family.context));
  const int64_t even = family.head_dim ? family.head_dim : a.heads > 0 ? a.width / a.heads : 0;
  a.head_dim = TRY(fields.get_or<int64_t>("head_dim", even));
  a.norm_epsilon = TRY(fields.get_or<double>("rms_norm_eps", 1e-6));
  a.tied = TRY(fields.get_or<bool>("tie_word_embeddings", false));
  a.qk_norm = family.qk_norm;
  CHECK_OK(read_activation(fields, "hidden_act", "silu", true, a));
  CHECK_OK(read_biases(fields, family, a));
  CHECK_OK(read_window(fields, family, a));
  CHECK_OK(read_rope(fields, a));
  return a;
}

Result<Architecture> read_gpt2(const JsonFields& fields) {
  Architecture a;
  a.family = "gpt2";
  a.vocab = TRY(fields.get<int64_t>("vocab_size"));
  a.width = TRY(fields.get<int64_t>("n_embd"));
  a.layers = TRY(fields.get<int64_t>("n_layer"));
  a.heads = a.kv_heads = TRY(fields.get<int64_t>("n_head"));
  a.context = TRY(fields.get_or<int64_t>("n_positions", TRY(fields.get_or<int64_t>("n_ctx", 1024))));
  if (a.heads > 0 && a.width % a.heads != 0) {
    return fail(ErrorCode::corrupt, "reading {}: n_embd {} is no multiple of n_head {}", fields.source(), a.width,
                a.heads);
  }
  a.head_dim = a.heads > 0 ? a.width / a.heads : 0;
  a.ffn_width = fields.has("n_inner") ? TRY(fields.get<int64_t>("n_inner"))
                                      : std::clamp<int64_t>(a.width, 0, int64_t{1} << 40) * 4;
  a.norm = Architecture::Norm::layer;
  a.norm_epsilon = TRY(fields.get_or<double>("layer_norm_epsilon", 1e-5));
  a.position = Architecture::Position::learned;
  a.qkv_bias = a.linear_bias = true;
  a.tied = TRY(fields.get_or<bool>("tie_word_embeddings", true));
  CHECK_OK(read_activation(fields, "activation_function", "gelu_new", false, a));
  const bool scaled = TRY(fields.get_or<bool>("scale_attn_weights", true));
  if (!scaled || TRY(fields.get_or<bool>("scale_attn_by_inverse_layer_idx", false))) {
    return fail(ErrorCode::unsupported,
                "reading {}: attention that is scaled by other than 1/sqrt(head dimension) is not "
                "supported",
                fields.source());
  }
  return a;
}

}  // namespace

std::span<const HfFamily> hf_families() {
  using Window = HfFamily::Window;
  static constexpr auto kFamilies = std::to_array<HfFamily>({
      {.name = "llama", .model_class = "LlamaForCausalLM", .context = 2048},
      {.name = "mistral",
       .model_class = "MistralForCausalLM",
       .kv_heads = 8,
       .context = 131072,
       .window = Window::always},
      {.name = "qwen2",
       .model_class = "Qwen2ForCausalLM",
       .kv_heads = 32,
       .context = 32768,
       .qkv_bias = true,
       .window = Window::on_request},
      {.name = "qwen3",
       .model_class = "Qwen3ForCausalLM",
       .kv_heads = 32,
       .context = 32768,
       .head_dim = 128,
       .qk_norm = true,
       .window = Window::on_request},
      {.name = "gpt2", .model_class = "GPT2LMHeadModel", .context = 1024},
  });
  return kFamilies;
}

const HfFamily* find_hf_family(std::string_view name) {
  const auto families = hf_families();
  const auto found = std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
  return found == families.end() ? nullptr : &*found;
}

std::span<const HfActivation> hf_activations() {
  using Ffn = Architecture::Ffn;
  static constexpr auto kActivations = std::to_array<HfActivation>({
      {"silu", true, Ffn::silu_gated},
      {"swish", true, Ffn::silu_gated},
      {"gelu", true, Ffn::gelu_gated},
      {"gelu_new", false, Ffn::gelu_tanh},
      {"gelu_pytorch_tanh", false, Ffn::gelu_tanh},
      {"gelu", false, Ffn::gelu},
      {"relu", false, Ffn::relu},
  });
  return kActivations;
}

Result<Architecture> parse_config(std::string_view text, const std::string& source) {
  const Json json = TRY(parse_json(text, source));
  const JsonFields fields = TRY(JsonFields::of(json, source));
  const std::string type = TRY(fields.get<std::string>("model_type"));
  const HfFamily* family = find_hf_family(type);
  if (!family) {
    std::vector<std::string_view> names;
    for (const HfFamily& known : hf_families()) names.push_back(known.name);
    return fail(ErrorCode::unsupported, "reading {}: model_type '{}' is not supported; those nearest to it are {}",
                source, type, nearest_names(type, names));
  }
  if (fields.has("quantization_config")) {
    return fail(ErrorCode::unsupported,
                "reading {}: the weights are quantised ('quantization_config'); start from the "
                "unquantised model or from a GGUF file",
                source);
  }
  const Architecture a = TRY(type == "gpt2" ? read_gpt2(fields) : read_llama_like(fields, *family));
  CHECK_OK(check(a, source));
  return a;
}

Result<Architecture> architecture_from_config(const std::string& path) {
  return parse_config(TRY(read_text_file(path, 16u << 20)), path);
}

}  // namespace thimble
