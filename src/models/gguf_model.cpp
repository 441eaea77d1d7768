// Models in GGUF files as llama.cpp writes them: families llama (Mistral too), qwen2, qwen3 and gpt2.
//
//   Source  llama.cpp, convert_hf_to_gguf.py and src/llama-arch.cpp
//   Choice  q and k of "llama" are stored with interleaved rows and are put back into Hugging Face's order when read
#include <cmath>
#include <set>

#include "files/gguf.h"
#include "models/rope_factors.h"
#include "models/stored_model.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

// Metadata keys of one architecture: "llama.embedding_length".
class Keys {
 public:
  Keys(const GgufFile& gguf, std::string family) : gguf_(gguf), family_(std::move(family)) {}
  template <class T>
  Result<T> get(std::string_view key) const {
    return gguf_.get<T>(full(key));
  }
  template <class T>
  Result<T> get_or(std::string_view key, T otherwise) const {
    return gguf_.get_or<T>(full(key), std::move(otherwise));
  }
  bool has(std::string_view key) const { return gguf_.find_value(full(key)) != nullptr; }
  std::string full(std::string_view key) const { return fmt::format("{}.{}", family_, key); }
  const std::string& path() const { return gguf_.path(); }

 private:
  const GgufFile& gguf_;
  std::string family_;
};

Result<RopeScaling::Kind> read_scaling_kind(const Keys& keys) {
  using Kind = RopeScaling::Kind;
  if (!keys.has("rope.scaling.type")) return Kind::none;
  const std::string type = TRY(keys.get<std::string>("rope.scaling.type"));
  if (type == "none") return Kind::none;
  if (type == "linear") return Kind::linear;
  if (type == "yarn") return Kind::yarn;
  return fail(ErrorCode::unsupported, "reading {}: rope scaling '{}' is not among none, linear, llama3 and yarn",
              keys.path(), type);
}

// Llama 3's scaling is not here but in the tensor rope_freqs.weight, which is read later.
Result<void> read_rope(const Keys& keys, Architecture& a) {
  a.rope_base = TRY(keys.get_or<double>("rope.freq_base", 10000));
  const int64_t rotated = TRY(keys.get_or<int64_t>("rope.dimension_count", a.head_dim));
  if (rotated != a.head_dim) {
    return fail(ErrorCode::unsupported, "reading {}: rope turns {} of {} elements of a head; thimble turns all",
                keys.path(), rotated, a.head_dim);
  }
  RopeScaling& scaling = a.rope_scaling;
  scaling.kind = TRY(read_scaling_kind(keys));
  if (scaling.kind == RopeScaling::Kind::none) {
    const double scale = TRY(keys.get_or<double>("rope.scale_linear", 1));  // of older files
    if (scale != 1) scaling.kind = RopeScaling::Kind::linear, scaling.factor = scale;
    return {};
  }
  scaling.factor = TRY(keys.get<double>("rope.scaling.factor"));
  if (scaling.kind == RopeScaling::Kind::linear) return {};
  scaling.original_context = TRY(keys.get_or<int64_t>("rope.scaling.original_context_length", a.context));
  scaling.beta_fast = TRY(keys.get_or<double>("rope.scaling.yarn_beta_fast", 32));
  scaling.beta_slow = TRY(keys.get_or<double>("rope.scaling.yarn_beta_slow", 1));
  // llama.cpp multiplies this with yarn's own 0.1 ln(factor) + 1.
  const double extra = TRY(keys.get_or<double>("rope.scaling.attn_factor", 1));
  if (extra != 1) scaling.attention_factor = extra * (0.1 * std::log(scaling.factor) + 1);
  return {};
}

Result<void> read_sizes(const GgufFile& gguf, const Keys& keys, Architecture& a) {
  a.width = TRY(keys.get<int64_t>("embedding_length"));
  a.layers = TRY(keys.get<int64_t>("block_count"));
  a.heads = TRY(keys.get<int64_t>("attention.head_count"));
  a.kv_heads = TRY(keys.get_or<int64_t>("attention.head_count_kv", a.heads));
  a.ffn_width = TRY(keys.get<int64_t>("feed_forward_length"));
  a.context = TRY(keys.get<int64_t>("context_length"));
  a.head_dim = TRY(keys.get_or<int64_t>("attention.key_length", a.heads > 0 ? a.width / a.heads : 0));
  const int64_t value_dim = TRY(keys.get_or<int64_t>("attention.value_length", a.head_dim));
  if (value_dim != a.head_dim) {
    return fail(ErrorCode::unsupported,
                "reading {}: heads of values have {} elements and those of keys {}; thimble "
                "needs them equal",
                keys.path(), value_dim, a.head_dim);
  }
  if (TRY(keys.get_or<int64_t>("expert_count", 0)) > 0) {
    return fail(ErrorCode::unsupported,
                "reading {}: the model is a mixture of experts; thimble reads dense models only", keys.path());
  }
  // The embedding says how many tokens there are; the key is missing from many files.
  const GgufTensor* embedding = gguf.find_tensor("token_embd.weight");
  if (!embedding) {
    return fail(ErrorCode::corrupt,
                "reading {}: tensor 'token_embd.weight' is missing; is it a vocabulary without a "
                "model?",
                keys.path());
  }
  a.vocab = embedding->shape.rows();
  return {};
}

Result<Architecture> read_architecture(const GgufFile& gguf) {
  Architecture a;
  a.family = TRY(gguf.get<std::string>("general.architecture"));
  const Keys keys(gguf, a.family);
  if (a.family != "llama" && a.family != "qwen2" && a.family != "qwen3" && a.family != "gpt2") {
    return fail(ErrorCode::unsupported, "reading {}: architecture '{}' is not among llama, qwen2, qwen3 and gpt2",
                gguf.path(), a.family);
  }
  CHECK_OK(read_sizes(gguf, keys, a));
  a.tied = gguf.find_tensor("output.weight") == nullptr;
  a.qkv_bias = gguf.find_tensor("blk.0.attn_q.bias") || gguf.find_tensor("blk.0.attn_qkv.bias");
  a.qk_norm = a.family == "qwen3";
  if (a.family == "gpt2") {
    a.norm = Architecture::Norm::layer;
    a.ffn = Architecture::Ffn::gelu_tanh;
    a.position = Architecture::Position::learned;
    a.linear_bias = true;
    a.norm_epsilon = TRY(keys.get_or<double>("attention.layer_norm_epsilon", 1e-5));
  } else {
    a.linear_bias = gguf.find_tensor("blk.0.attn_output.bias") && gguf.find_tensor("blk.0.ffn_down.bias");
    a.norm_epsilon = TRY(keys.get<double>("attention.layer_norm_rms_epsilon"));
    CHECK_OK(read_rope(keys, a));
  }
  // A window in a llama file is Mistral's; qwen2 files do not say whether theirs is in use, and it is not by default.
  if (a.family == "llama") a.window = TRY(keys.get_or<int64_t>("attention.sliding_window", 0));
  if (a.window > 0) a.family = "mistral";
  return a;
}

// rope_freqs.weight holds Llama 3's scaling.
Result<void> read_rope_factors(const GgufFile& gguf, Architecture& a) {
  const GgufTensor* tensor = gguf.find_tensor("rope_freqs.weight");
  if (!tensor || a.position != Architecture::Position::rope) return {};
  if (tensor->type != kF32.gguf_type || tensor->shape != Shape{a.head_dim / 2}) {
    return fail(ErrorCode::corrupt, "reading {}: 'rope_freqs.weight' should be f32 of shape [{}], found {} {}",
                gguf.path(), a.head_dim / 2, gguf_tensor_type_name(tensor->type), tensor->shape.text());
  }
  std::vector<float> factors(static_cast<size_t>(a.head_dim / 2));
  CHECK_OK(gguf.file(tensor->part).read(tensor->offset, std::as_writable_bytes(std::span(factors))));
  const auto scaling = recognise_rope_factors(factors, a.rope_base);
  if (!scaling) {
    return fail(ErrorCode::unsupported,
                "reading {}: the divisors in 'rope_freqs.weight' are not those of Llama 3's rope "
                "scaling",
                gguf.path());
  }
  if (scaling->kind != RopeScaling::Kind::none) a.rope_scaling = *scaling;
  return {};
}

// Rows that the tensor of the file must have, and where ours begin among them: q, k, v follow each other when fused.
struct Rows {
  int64_t all, first;
};
Rows rows_in_file(const Architecture& a, int part, int64_t rows) {
  if (part < 0) return {rows, 0};
  return {a.q_width() + 2 * a.kv_width(), part == 0 ? 0 : part == 1 ? a.q_width() : a.q_width() + a.kv_width()};
}

Result<void> add_tensor(const GgufFile& gguf, const TensorSpec& spec, std::set<std::string_view>& used,
                        StoredModel& model) {
  const Architecture& a = model.architecture;
  const ForeignName foreign = gguf_name(spec.name, a.family == "gpt2");
  const GgufTensor* tensor = gguf.find_tensor(foreign.name);
  if (!tensor) return fail(ErrorCode::corrupt, "reading {}: tensor '{}' is missing", gguf.path(), foreign.name);
  const bool vector = spec.shape.rank() == 1;
  const Rows rows = rows_in_file(a, foreign.part, spec.shape[0]);
  const Shape expected = vector ? Shape{rows.all} : Shape{rows.all, spec.shape[1]};
  if (tensor->shape != expected) {
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' should have shape {} by the metadata, found {}",
                gguf.path(), foreign.name, expected.text(), tensor->shape.text());
  }
  const Codec* codec = find_codec_gguf(static_cast<int>(tensor->type));
  if (!codec) {
    return fail(ErrorCode::unsupported, "reading {}: tensor '{}' is of type {}, which thimble has no codec for",
                gguf.path(), foreign.name, gguf_tensor_type_name(tensor->type));
  }
  if (vector && codec->block != 1) {
    return fail(ErrorCode::unsupported, "reading {}: vector '{}' is quantised to {}; expected f32, bf16 or f16",
                gguf.path(), foreign.name, codec->name);
  }
  StoredTensor stored{.file = tensor->part, .offset = tensor->offset};
  stored.offset += static_cast<uint64_t>(rows.first * codec->bytes(vector ? 1 : spec.shape[1]));
  if (is_q_or_k(spec.name) && (a.family == "llama" || a.family == "mistral")) {
    stored.layout = StoredTensor::Layout::interleaved;
    stored.head_dim = a.head_dim;
  }
  used.insert(tensor->name);
  model.tensors.push_back({spec.name, codec, spec.shape});
  model.stored.push_back(stored);
  return {};
}

Result<StoredModel> open_gguf(const std::string& path) {
  const GgufFile gguf = TRY(GgufFile::open(path));
  StoredModel model;
  model.architecture = TRY(read_architecture(gguf));
  CHECK_OK(check(model.architecture, path));
  CHECK_OK(read_rope_factors(gguf, model.architecture));
  std::set<std::string_view> used = {"rope_freqs.weight"};
  for (const TensorSpec& spec : tensor_specs(model.architecture)) CHECK_OK(add_tensor(gguf, spec, used, model));
  // A tensor that nobody reads is a part of the model that would silently be left out.
  for (const GgufTensor& tensor : gguf.tensors()) {
    if (!used.contains(tensor.name)) {
      return fail(ErrorCode::unsupported, "reading {}: tensor '{}' has no place in a model of family {}", path,
                  tensor.name, model.architecture.family);
    }
  }
  for (size_t part = 0; part < gguf.parts(); ++part)
    model.files.push_back(TRY(InputFile::open(gguf.file(part).path())));
  return model;
}

}  // namespace

const ModelFormat kGgufModel = {
    .name = "gguf", .description = "a .gguf file", .recognises = GgufFile::recognises, .open = open_gguf};

}  // namespace thimble
