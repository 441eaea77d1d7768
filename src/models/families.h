// Families of models as Hugging Face's files have them: one file each in families/, one row of the table in
// families.cpp. A family says what its config.json means and how its tensors are called; what is built from that knows
// no family.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "files/gguf.h"
#include "models/hf_fields.h"
#include "models/norm.h"

namespace thimble {

// What a file calls one of thimble's modules: "self_attn.q_proj" of a block, or "model.norm" outside; the number of an
// expert is "*" in both. Modules with one name share a tensor, whose rows they are in the order of the list: all of the
// first, then all of the second; or by head: of each key head its queries, the key, the value.
struct HfName {
  enum class Fusion : unsigned char { none, stacked, by_head };
  std::string_view module, file;
  Fusion fusion = Fusion::none;
};

// How llama.cpp's files have the family, where it runs it (docs/files.md).
struct GgufField {
  std::string_view key, config;  // "logit_scale", and the field of config.json that says the same
};
// What llama.cpp's loader asks of a file of the architecture (load_tensors): one that lacks a tensor which it needs, or
// has one that it does not know, does not open there.
struct GgufTensors {
  enum Taken : uint8_t { never, either, always };
  Taken head = either;      // output.weight; without it the embedding is the head
  Taken head_bias = never;  // output.bias
  Taken qkv_bias = either;  // attn_q.bias and so on, or attn_qkv.bias
  Taken output_bias = never, ffn_bias = never;
  bool rope_factors = false;  // rope_freqs.weight, of Llama 3's scaling
  bool long_rope = false;     // rope_factors_long.weight, rope_factors_short.weight
  bool any_head_dim = true;   // heads may have another width than that of the model divided by their number
};
// Of the architectures that share the loader of llama's, and of those whose matrices all have biases.
inline constexpr GgufTensors kLlamaTensors{
    .output_bias = GgufTensors::either, .ffn_bias = GgufTensors::either, .rope_factors = true, .long_rope = true};
inline constexpr GgufTensors kBiasedTensors{.qkv_bias = GgufTensors::always,
                                            .output_bias = GgufTensors::always,
                                            .ffn_bias = GgufTensors::always,
                                            .any_head_dim = false};
struct GgufFamily {
  std::string_view architecture;  // general.architecture; empty: llama.cpp does not run it
  bool pairs = false;             // q and k are stored for rope of neighbours, whatever the layout of the model
  bool fused_qkv = false;         // attn_qkv: q, k, v rows
  bool fused_gate_up = false;     // ffn_up: gate rows, then up rows
  std::span<const GgufField> fields = {};
  GgufTensors tensors = {};
  bool local_rope = false;     // layers with a window have a rope of their own
  double local_rope_base = 0;  // its base; 0: that of the others
  // rope.freq_base_swa: what llama.cpp computes with, passes over, or computes with in a way that is not done here.
  enum class LocalBase : uint8_t { ignored, read, refused };
  LocalBase local_base = LocalBase::ignored;
  bool ignores_window = false;  // llama.cpp lets every layer see everything, whatever the file says of a window
  // Fields of config.json that follow from which tensors there are, or from sizes.
  void (*from_tensors)(const GgufFile& gguf, int64_t head_dim, Json& config) = nullptr;
  std::span<const HfName> (*names)(const Architecture& architecture) = nullptr;  // that are not those of tensor_names.h
};

struct Family {
  std::string_view name;         // model_type
  std::string_view model_class;  // for "architectures"
  // Lists the fields of config.json and fills in what the family takes for granted.
  void (*config)(HfFields& fields, Architecture& architecture);
  SizeFields sizes = {};
  std::string_view base = "model.";           // prefix of all but the head, which files of bare models lack
  std::string_view blocks = "model.layers.";  // prefix of block 0: "model.layers.0."
  // Names that are not thimble's own.
  std::span<const HfName> (*names)(const Architecture& architecture) = nullptr;
  bool transposed = false;   // matrices of blocks are [in, out] (GPT-2's Conv1D)
  bool scales_rows = false;  // Architecture::embedding_scale is the embedding's own in its files, not the model's
  std::string_view buffers[3] = {".rotary_emb.inv_freq"};  // ends of names in old files that are no weights
  Rope::Layout rope_layout = Rope::Layout::halves;         // in the family's own files
  GgufFamily gguf = {};
};

std::span<const Family* const> families();
const Family* find_family(std::string_view name);

// Where one of thimble's tensors is in a file of the family.
struct FilePlace {
  std::string name;  // of the file's tensor
  int64_t rows = 0;  // of the file's tensor, transposed or not
  // Rows [first, first + run), then as many after every `period` rows.
  int64_t first = 0, run = 0, period = 0;
  bool transposed = false;
};
// Of a tensor that the modules of one name in `names` share: where `module`'s rows are. Sets all but name, transposed.
FilePlace place_among(std::span<const HfName> names, const HfName& module, const Block& block);
FilePlace place_in_file(const Family& family, const Architecture& architecture, const TensorSpec& spec);

// What llama-like families have in common. Reading, `block` gets its norms, heads and FFN; a.blocks is left to
// fields.repeat().
struct LlamaLike {
  double epsilon = 1e-6;
  Norm norm = {.kind = &kRms};  // before both sublayers, and the final one
  std::string_view epsilon_field = "rms_norm_eps", activation_field = "hidden_act", activation = "silu";
  const ChannelMixer* ffn = &kGatedFfn;
  bool tied = false;
};
void llama_like(HfFields& fields, Architecture& architecture, Block& block, const LlamaLike& like = {});
// Names of norms that Gemma 2 and 3, and OLMo 2 and 3 with EXAONE 4, have in common.
std::span<const HfName> gemma_names(const Architecture& architecture);
std::span<const HfName> olmo_names(const Architecture& architecture);
// llama.cpp scales Gemma's scores by the root of a head's width, but in the largest model, of so many layers.
void gemma_scale(int64_t head_dim, int64_t most_layers, Json& config);
// The same of Gemma: gains less 1, a scaled embedding.
void gemma_like(HfFields& fields, Architecture& architecture, Block& block, LlamaLike like);
// Scale and caps of Gemma 2 and 3, with the family's defaults; 0: none.
struct GemmaCaps {
  double score_cap = 0, logit_cap = 0;
  bool caps_scores = true;  // whether the family looks at "attn_logit_softcapping"
};
void gemma_attention(HfFields& fields, Architecture& architecture, Block& block, const GemmaCaps& caps);
// OLMo 2 and 3: norms behind the sublayers, and over all of q and k.
void olmo_like(HfFields& fields, Architecture& architecture, Block& block);
// Mixtures of experts: how many there are and are chosen, and "norm_topk_prob", whether the gates of the chosen ones
// add up to 1.
struct RoutedFields {
  std::string_view experts = "num_experts";
  int64_t default_experts = 8, default_chosen = 2;
};
void routed(HfFields& fields, Routing& routing, const RoutedFields& names);
// What "mlp.router" is called in them, beside experts that are called as thimble calls them.
std::span<const HfName> router_names(const Architecture& architecture);
// Fields that matter to training a router there, which is not thimble's way.
void router_training(HfFields& fields);
// Qwen's windows: used on request, from layer max_window_layers on. After fields.repeat().
void qwen_windows(HfFields& fields, Architecture& architecture);

extern const Family kLlamaFamily, kMistralFamily, kMinistralFamily, kMinistral3Family, kQwen2Family, kQwen3Family,
    kGpt2Family, kGemmaFamily, kGemma2Family, kGemma3Family, kPhiFamily, kPhi3Family, kSmollm3Family, kOlmo2Family,
    kOlmo3Family, kGraniteFamily, kGptNeoxFamily, kOptFamily, kBloomFamily, kGptjFamily, kFalconFamily, kStablelmFamily,
    kStarcoder2Family, kCohere2Family, kGlm4Family, kExaone4Family, kNemotronFamily, kThimbleFamily, kMixtralFamily,
    kOlmoeFamily, kQwen3MoeFamily;

}  // namespace thimble
