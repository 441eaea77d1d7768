#include "models/hf_fields.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/warnings.h"

namespace thimble {
namespace {

struct NamedActivation {
  std::string_view name;
  Activation kind;
};
// The first row of an activation has the name that is written.
constexpr auto kActivations = std::to_array<NamedActivation>({{"silu", Activation::silu},
                                                              {"swish", Activation::silu},
                                                              {"gelu_pytorch_tanh", Activation::gelu_tanh},
                                                              {"gelu_new", Activation::gelu_tanh},
                                                              {"gelu_fast", Activation::gelu_tanh},
                                                              {"gelu", Activation::gelu},
                                                              {"relu", Activation::relu},
                                                              {"relu2", Activation::relu_squared}});

constexpr std::string_view kDropout = "dropout is a setting of a run", kRandom = "weights are read, not drawn",
                           kTokens = "the tokenizer's files say it", kReturned = "it is about what a call returns",
                           kOrigin = "it says where the file is from", kClasses = "it is of classifiers",
                           kKernels = "it chooses between ways to compute the same",
                           kNumbers = "each tensor says its type";

constexpr auto kHarmless = std::to_array<FieldNote>({
    {"model_type", FieldMeaning::harmless, "it has chosen the family"},
    {"architectures", FieldMeaning::harmless, "the family says it"},
    {"is_decoder", FieldMeaning::harmless, "the family says it"},
    {"is_encoder_decoder", FieldMeaning::harmless, "the family says it"},
    {"is_llama_config", FieldMeaning::harmless, "the family says it"},
    {"auto_map", FieldMeaning::harmless, "no code is run"},
    {"_name_or_path", FieldMeaning::harmless, kOrigin},
    {"transformers_version", FieldMeaning::harmless, kOrigin},
    {"unsloth_version", FieldMeaning::harmless, kOrigin},
    {"unsloth_fixed", FieldMeaning::harmless, kOrigin},
    {"_attn_implementation", FieldMeaning::harmless, kKernels},
    {"_attn_implementation_autoset", FieldMeaning::harmless, kKernels},
    {"pretraining_tp", FieldMeaning::harmless, kKernels},
    {"chunk_size_feed_forward", FieldMeaning::harmless, kKernels},
    {"cache_implementation", FieldMeaning::harmless, kKernels},
    {"use_cache", FieldMeaning::harmless, kKernels},
    {"gradient_checkpointing", FieldMeaning::harmless, kKernels},
    {"attention_dropout", FieldMeaning::harmless, kDropout},
    {"attention_probs_dropout_prob", FieldMeaning::harmless, kDropout},
    {"attn_pdrop", FieldMeaning::harmless, kDropout},
    {"embd_pdrop", FieldMeaning::harmless, kDropout},
    {"embedding_dropout", FieldMeaning::harmless, kDropout},
    {"hidden_dropout", FieldMeaning::harmless, kDropout},
    {"hidden_dropout_prob", FieldMeaning::harmless, kDropout},
    {"resid_pdrop", FieldMeaning::harmless, kDropout},
    {"residual_dropout", FieldMeaning::harmless, kDropout},
    {"initializer_range", FieldMeaning::harmless, kRandom},
    {"bos_token_id", FieldMeaning::harmless, kTokens},
    {"eos_token_id", FieldMeaning::harmless, "it ends replies: the tokenizer reads it from here"},
    {"pad_token_id", FieldMeaning::harmless, kTokens},
    {"decoder_start_token_id", FieldMeaning::harmless, kTokens},
    {"forced_bos_token_id", FieldMeaning::harmless, kTokens},
    {"forced_eos_token_id", FieldMeaning::harmless, kTokens},
    {"tokenizer_class", FieldMeaning::harmless, kTokens},
    {"dtype", FieldMeaning::harmless, kNumbers},
    {"torch_dtype", FieldMeaning::harmless, kNumbers},
    {"quantization_config", FieldMeaning::harmless, "it is read where tensors are"},
    {"id2label", FieldMeaning::harmless, kClasses},
    {"label2id", FieldMeaning::harmless, kClasses},
    {"num_labels", FieldMeaning::harmless, kClasses},
    {"problem_type", FieldMeaning::harmless, kClasses},
    {"task_specific_params", FieldMeaning::harmless, kClasses},
    {"output_attentions", FieldMeaning::harmless, kReturned},
    {"output_hidden_states", FieldMeaning::harmless, kReturned},
    {"return_dict", FieldMeaning::harmless, kReturned},
});

constexpr std::string_view kNoWindow = "'sliding_window' is {}; expected at least 1, or null for no window";

template <class T>
Result<T> read(const JsonFields& fields, std::string_view key) {
  return fields.get<T>(key);
}
template <class T>
Result<std::vector<T>> read_list(const JsonFields& fields, std::string_view key, std::string_view what) {
  const Json* const json = fields.find(key);
  const auto fits = [](const Json& j) {
    if constexpr (std::is_same_v<T, std::string>) return j.is_string();
    if constexpr (std::is_same_v<T, int64_t>) return j.is_number_integer() || j.is_boolean();
    return j.is_number();
  };
  if (!json || !json->is_array() || !std::all_of(json->begin(), json->end(), fits))
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be a list of {}", fields.source(), key, what);
  std::vector<T> out;
  for (const Json& j : *json) {
    if constexpr (std::is_same_v<T, int64_t>)
      out.push_back(j.is_boolean() ? j.get<bool>() : j.get<int64_t>());
    else
      out.push_back(j.get<T>());
  }
  return out;
}
template <>
Result<std::vector<double>> read(const JsonFields& fields, std::string_view key) {
  return read_list<double>(fields, key, "numbers");
}
template <>
Result<std::vector<int64_t>> read(const JsonFields& fields, std::string_view key) {
  return read_list<int64_t>(fields, key, "whole numbers");
}
template <>
Result<std::vector<std::string>> read(const JsonFields& fields, std::string_view key) {
  return read_list<std::string>(fields, key, "strings");
}

}  // namespace

Activation activation_named(std::string_view name) {
  return std::find_if(kActivations.begin(), kActivations.end(), [&](const auto& row) { return row.name == name; })
      ->kind;
}

template <class T>
void HfFields::transfer(std::string_view key, T& value, const T* otherwise) {
  note(key, {});
  if (!error_) return;
  if (!reads()) {
    (*json_)[std::string(key)] = value;
    return;
  }
  if (otherwise && !fields_->has(key)) {
    value = *otherwise;
    return;
  }
  auto found = read<T>(*fields_, key);
  if (found)
    value = std::move(*found);
  else
    error_ = Failure(found.error());
}
template <class T>
std::string HfFields::text(const T& value) {
  return Json(value).dump();
}

template void HfFields::transfer(std::string_view, int64_t&, const int64_t*);
template void HfFields::transfer(std::string_view, double&, const double*);
template void HfFields::transfer(std::string_view, bool&, const bool*);
template void HfFields::transfer(std::string_view, std::string&, const std::string*);
template void HfFields::transfer(std::string_view, std::vector<double>&, const std::vector<double>*);
template void HfFields::transfer(std::string_view, std::vector<int64_t>&, const std::vector<int64_t>*);
template void HfFields::transfer(std::string_view, std::vector<std::string>&, const std::vector<std::string>*);
template std::string HfFields::text(const int64_t&);
template std::string HfFields::text(const double&);
template std::string HfFields::text(const bool&);
template std::string HfFields::text(const std::string&);

FieldNote HfFields::meaning(std::string_view key) const {
  if (const auto own = known_.find(key); own != known_.end())
    return {own->first, own->second.empty() ? FieldMeaning::honoured : FieldMeaning::harmless, own->second};
  if (const FieldNote* const note = find_note(kHarmless, key)) return *note;
  return {key, FieldMeaning::warned, "unknown"};
}

void HfFields::refuse(std::string why) {
  if (!error_) return;
  error_ = reads() ? fail(ErrorCode::unsupported, "reading {}: {}", fields_->source(), why)
                   : fail(ErrorCode::unsupported, "writing config.json: {}", why);
}

void HfFields::sizes(Architecture& a, Block& block) {
  SizeFields f = sizes_;
  for (const std::string_view key : {f.width, f.context, f.other_width, f.other_context}) note(key, {});
  // transformers takes the usual names too, first, in families whose own begin so (attribute_map).
  for (const auto& [own, usual] :
       {std::pair(&f.width, SizeFields{}.width), std::pair(&f.layers, SizeFields{}.layers),
        std::pair(&f.heads, SizeFields{}.heads), std::pair(&f.context, SizeFields{}.context)})
    if (own->starts_with("n_") && says(usual)) *own = usual;
  if (!f.other_width.empty() && says(f.other_width)) f.width = f.other_width;
  if (!f.other_context.empty() && says(f.other_context) && !says(f.context)) f.context = f.other_context;
  field("vocab_size", a.vocab);
  field(f.width, a.width);
  layers_ = a.layers();
  field(f.layers, layers_);
  // transformers honours both in every family.
  if (reads()) only("is_causal", true);
  if (says("per_layer_config")) refuse("'per_layer_config' gives layers settings of their own, which is not supported");
  Attention& m = block.attention;
  field(f.heads, m.heads);
  if (reads() && error_ && m.heads > 0 && f.default_head_dim == 0 && (f.head_dim.empty() || !says(f.head_dim)) &&
      a.width % m.heads != 0) {
    error_ = fail(ErrorCode::corrupt, "reading {}: {} {} is no multiple of {} {}", fields_->source(), f.width, a.width,
                  f.heads, m.heads);
    return;
  }
  const auto optional = [&](std::string_view key, int64_t& value, int64_t otherwise) {
    if (!key.empty())
      field(key, value, otherwise);
    else if (reads())
      value = otherwise;
  };
  const int64_t share = m.heads > 0 ? a.width / m.heads : 0;
  if (f.head_dim.empty() && says("head_dim")) only("head_dim", share);
  optional(f.kv_heads, m.kv_heads, f.default_kv_heads ? f.default_kv_heads : m.heads);
  optional(f.head_dim, m.head_dim, f.default_head_dim ? f.default_head_dim : share);
  const int64_t four_times = std::clamp<int64_t>(a.width, 0, int64_t{1} << 40) * 4;
  if (f.default_ffn == 0 && !f.ffn.empty())
    field(f.ffn, block.ffn.width);
  else
    optional(f.ffn, block.ffn.width, f.default_ffn > 0 ? f.default_ffn : four_times);
  optional(f.context, a.context, f.default_context);
}

void HfFields::activation(std::string_view key, FeedForward& ffn, std::string_view otherwise) {
  std::string name;
  if (!reads()) {
    const auto row = std::find_if(kActivations.begin(), kActivations.end(),
                                  [&](const NamedActivation& known) { return known.kind == ffn.activation; });
    name = row->name;
  }
  field(key, name, std::string(otherwise));
  if (!reads() || !error_) return;
  std::string known;
  for (const NamedActivation& row : kActivations) {
    if (row.name == name) return void(ffn.activation = row.kind);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  refuse(fmt::format("'{}' is '{}', which is not among {}", key, name, known));
}

void HfFields::repeat(Architecture& a, const Block& block) {
  if (!reads() || !error_) return;
  constexpr int64_t kMostLayers = 4096;
  if (layers_ < 1 || layers_ > kMostLayers) {
    error_ = fail(ErrorCode::invalid_argument, "reading {}: the number of layers ('{}') should be in 1..{}, found {}",
                  fields_->source(), sizes_.layers, kMostLayers, layers_);
    return;
  }
  a.blocks.assign(static_cast<size_t>(layers_), block);
}

void HfFields::layer_types(Architecture& a, const std::function<bool(int64_t)>& slides,
                           const std::function<void(Block&, bool)>& set, const std::function<bool(const Block&)>& is) {
  std::vector<std::string> types;
  if (!reads())
    for (const Block& block : a.blocks) types.push_back(is(block) ? "sliding_attention" : "full_attention");
  field("layer_types", types, {});
  if (!reads() || !error_) return;
  if (!types.empty() && types.size() != a.blocks.size())
    return refuse(fmt::format("'layer_types' names {} layers of {}", types.size(), a.blocks.size()));
  std::replace(types.begin(), types.end(), std::string("attention"), std::string("full_attention"));  // an older name
  for (size_t i = 0; i < a.blocks.size(); ++i) {
    if (!types.empty() && types[i] != "sliding_attention" && types[i] != "full_attention")
      return refuse(fmt::format("layer type '{}' is not among full_attention and sliding_attention", types[i]));
    set(a.blocks[i], types.empty() ? slides(static_cast<int64_t>(i)) : types[i] == "sliding_attention");
  }
}

int64_t HfFields::read_window(const Architecture& a, int64_t otherwise) {
  int64_t window = 0;
  for (const Block& block : a.blocks) window = std::max(window, block.attention.window);
  const bool null = reads() && fields_->json().contains("sliding_window") && !says("sliding_window");
  if (!reads() && window == 0) {
    (*json_)["sliding_window"] = nullptr;
    note("sliding_window", {});
  } else {
    field("sliding_window", window, null ? 0 : otherwise);
  }
  return window;
}

void HfFields::window(Architecture& a, int64_t otherwise) {
  const int64_t window = read_window(a, otherwise);
  if (says("sliding_window") && window < 1) refuse(fmt::format(kNoWindow, window));
  if (reads())
    for (Block& block : a.blocks) block.attention.window = window;
}

void HfFields::windows(Architecture& a, int64_t otherwise, const std::function<bool(int64_t)>& slides) {
  const int64_t window = read_window(a, otherwise);
  bool missing = false;
  layer_types(
      a, [&](int64_t layer) { return (window > 0 || says("sliding_window")) && slides(layer); },
      [&](Block& block, bool sliding) {
        block.attention.window = sliding ? window : 0;
        missing |= sliding && window < 1;
      },
      [](const Block& block) { return block.attention.window > 0; });
  // transformers makes the mask of a window in some families although no layer slides.
  if (!reads() && window == 0 && otherwise > 0) (*json_)["sliding_window"] = otherwise;
  if (!missing) return;
  refuse(says("sliding_window") ? fmt::format(kNoWindow, window)
                                : "'layer_types' has layers with sliding_attention, but there is no 'sliding_window'");
}

void HfFields::warn_of_unknown(std::string_view family) const {
  if (!error_) return;
  std::string unknown;
  for (const auto& [key, value] : fields_->json().items()) {
    if (value.is_null() || meaning(key).meaning != FieldMeaning::warned) continue;
    unknown += fmt::format("{}'{}'", unknown.empty() ? "" : ", ", key);
  }
  if (!unknown.empty())
    warn(fmt::format("{}: {} not known to family {}: not used", fields_->source(), unknown, family));
}

}  // namespace thimble
