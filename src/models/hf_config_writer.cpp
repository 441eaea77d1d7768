// The writing half of hf_config.h.
#include <algorithm>

#include "files/json.h"
#include "models/hf_config.h"
#include "models/hf_families.h"

namespace thimble {
namespace {

using OrderedJson = nlohmann::ordered_json;

Result<std::string_view> activation_name(const Architecture& a) {
  for (const HfActivation& activation : hf_activations()) {
    if (activation.ffn == a.ffn) return activation.name;
  }
  return fail(ErrorCode::unsupported, "writing config.json: the activation of the FFN has no name there");
}

void write_rope(const Architecture& a, OrderedJson& json) {
  using Kind = RopeScaling::Kind;
  json["rope_theta"] = a.rope_base;
  const RopeScaling& s = a.rope_scaling;
  if (s.kind == Kind::none) {
    json["rope_scaling"] = nullptr;
    return;
  }
  OrderedJson& scaling = json["rope_scaling"];
  scaling["rope_type"] = s.kind == Kind::linear ? "linear" : s.kind == Kind::llama3 ? "llama3" : "yarn";
  scaling["factor"] = s.factor;
  if (s.kind == Kind::linear) return;
  scaling["original_max_position_embeddings"] = s.original_context;
  if (s.kind == Kind::llama3) {
    scaling["low_freq_factor"] = s.low_frequency_factor;
    scaling["high_freq_factor"] = s.high_frequency_factor;
    return;
  }
  scaling["beta_fast"] = s.beta_fast;
  scaling["beta_slow"] = s.beta_slow;
  if (s.attention_factor != 0) scaling["attention_factor"] = s.attention_factor;
}

void write_window(const Architecture& a, const HfFamily& family, OrderedJson& json) {
  using Window = HfFamily::Window;
  if (family.window == Window::never) return;
  json["sliding_window"] = nullptr;
  if (a.window > 0) json["sliding_window"] = a.window;
  if (family.window == Window::always) return;
  json["use_sliding_window"] = a.window > 0;
  json["max_window_layers"] = a.window > 0 ? 0 : a.layers;
}

void write_llama_like(const Architecture& a, const HfFamily& family, OrderedJson& json) {
  json["hidden_size"] = a.width;
  json["num_hidden_layers"] = a.layers;
  json["num_attention_heads"] = a.heads;
  json["num_key_value_heads"] = a.kv_heads;
  json["head_dim"] = a.head_dim;
  json["intermediate_size"] = a.ffn_width;
  json["max_position_embeddings"] = a.context;
  json["rms_norm_eps"] = a.norm_epsilon;
  if (a.family == "llama") {
    json["attention_bias"] = a.qkv_bias;
    json["mlp_bias"] = a.linear_bias;
  }
  write_rope(a, json);
  write_window(a, family, json);
}

void write_gpt2(const Architecture& a, OrderedJson& json) {
  json["n_embd"] = a.width;
  json["n_layer"] = a.layers;
  json["n_head"] = a.heads;
  json["n_inner"] = a.ffn_width;
  json["n_positions"] = a.context;
  json["layer_norm_epsilon"] = a.norm_epsilon;
}

}  // namespace

Result<std::string> config_text(const Architecture& a, const ConfigExtras& extras) {
  const HfFamily* family = find_hf_family(a.family);
  if (!family) {
    return fail(ErrorCode::unsupported, "writing config.json: transformers' family of '{}' is not known", a.family);
  }
  OrderedJson json;
  json["architectures"] = {family->model_class};
  json["model_type"] = family->name;
  json["vocab_size"] = a.vocab;
  if (a.family == "gpt2") {
    write_gpt2(a, json);
  } else {
    write_llama_like(a, *family, json);
  }
  json[a.family == "gpt2" ? "activation_function" : "hidden_act"] = TRY(activation_name(a));
  json["tie_word_embeddings"] = a.tied;
  json["torch_dtype"] = extras.dtype;
  if (extras.bos) json["bos_token_id"] = *extras.bos;
  if (extras.eos) json["eos_token_id"] = *extras.eos;
  std::string text = json_text(json);

  // What the family can not say (a bias that it does not have, say) must not get lost in writing.
  Architecture back = TRY(parse_config(text, "the new config.json"));
  back.rope_layout = a.rope_layout;
  if (!(back == a)) {
    return fail(ErrorCode::unsupported,
                "writing config.json: family '{}' can not express this architecture (biases, norm "
                "of q and k, window, position or kind of FFN)",
                a.family);
  }
  return text;
}

}  // namespace thimble
