#include "models/gguf_writer.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "core/warnings.h"
#include "models/gguf_config.h"
#include "models/gguf_fields.h"
#include "models/gguf_metadata.h"
#include "models/rope_factors.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

// One tensor of the file, made of one of ours, or of several that share it.
struct FileTensor {
  struct Part {
    const ModelTensor* tensor;
    RowOrder order;
    int64_t head_dim;
    float shift;
  };
  std::string name;
  Shape shape;
  const Codec* codec;
  std::vector<Part> parts;
};

// The codec of a tensor in the file; a replacement is reported.
Result<const Codec*> choose_codec(const ModelTensor& tensor, const GgufWriteOptions& options,
                                  std::vector<GgufReplacement>& replaced) {
  if (tensor.shape.rank() == 1 || tensor.name == "model.embed_positions.weight") return &kF32;
  const bool outer = !tensor.name.starts_with("model.layers.");
  const Codec* wanted = outer && options.embedding_codec ? options.embedding_codec : options.codec;
  if (!wanted) wanted = tensor.codec;
  if (wanted->gguf_type < 0) {
    return fail(ErrorCode::unsupported, "writing tensor '{}': GGUF has no format {}; choose another, q8_0 say",
                tensor.name, wanted->name);
  }
  const Codec* used = &codec_for_rows(*wanted, tensor.shape.columns());
  if (used != wanted) replaced.push_back({tensor.name, wanted->name, used->name});
  return used;
}

// llama.cpp turns neighbours in some families and halves in the others.
RowOrder order_of(const Family& family, const Architecture& a, const std::string& name) {
  const Attention* const attention = is_q_or_k(name) ? &a.blocks[block_of(name)].attention : nullptr;
  if (!attention || attention->rope < 0) return RowOrder::same;
  const bool pairs = family.gguf.pairs || family.rope_layout == Rope::Layout::interleaved;
  const bool ours = a.ropes[static_cast<size_t>(attention->rope)].layout == Rope::Layout::interleaved;
  if (pairs == ours) return RowOrder::same;
  return pairs ? RowOrder::halves_to_interleaved : RowOrder::interleaved_to_halves;
}

Result<std::vector<FileTensor>> plan(const Family& family, const Architecture& a, std::span<const ModelTensor> tensors,
                                     const GgufWriteOptions& options, GgufWriteReport& report) {
  std::vector<FileTensor> files;
  std::map<std::string, size_t> index;
  for (const ModelTensor* tensor : TRY(tensors_in_order(a, tensors))) {
    const TensorSpec spec{tensor->name, tensor->shape, {}};
    const FilePlace place = place_in_gguf(family, a, spec);
    const Codec* codec = TRY(choose_codec(*tensor, options, report.replaced));
    const FileTensor::Part part{tensor, order_of(family, a, tensor->name), head_dim_of(a, tensor->name),
                                gguf_shift(a, spec)};
    if (const auto [file, begun] = index.emplace(place.name, files.size()); !begun) {
      files[file->second].parts.push_back(part);
      continue;
    }
    const Shape shape = tensor->shape.rank() == 1 ? Shape{place.rows} : Shape{place.rows, tensor->shape[1]};
    files.push_back({place.name, shape, codec, {part}});
  }
  return files;
}

// Divisors of rope's frequencies, which GGUF keeps as tensors.
struct Factors {
  std::string_view name;
  std::vector<float> numbers;
};
Result<std::vector<Factors>> rope_factors(const Architecture& a, const std::string& path) {
  std::vector<Factors> out;
  if (a.ropes.empty()) return out;
  const Rope& rope = a.ropes.front();
  const RopeScaling& s = rope.scaling;
  if (s.kind == RopeScaling::Kind::longrope) {
    out.push_back({kLongFactors, {s.long_factors.begin(), s.long_factors.end()}});
    out.push_back({kShortFactors, {s.short_factors.begin(), s.short_factors.end()}});
  }
  if (s.kind != RopeScaling::Kind::llama3) return out;
  out.push_back({kRopeFactors, llama3_rope_factors(s, rope.base, rope.rotated)});
  if (!recognise_rope_factors(out.front().numbers, rope.base))
    return fail(ErrorCode::unsupported,
                "writing {}: the divisors of this model's rope_scaling (original_max_position_embeddings {}, "
                "low_freq_factor {}, high_freq_factor {}) could not be read again; keep the Hugging Face folder",
                path, s.original_context, s.low_frequency_factor, s.high_frequency_factor);
  return out;
}

// The fields of config.json in which two architectures differ.
std::string lost_fields(const Family& family, Architecture a, Architecture b) {
  HfFields one(family.sizes), other(family.sizes);
  family.config(one, a);
  family.config(other, b);
  std::string out;
  for (const auto& [key, value] : other.json().items())
    if (!one.json().contains(key) || one.json()[key] != value)
      out += fmt::format("{}'{}'", out.empty() ? "" : ", ", key);
  return out;
}

// "a head" where llama.cpp never has one, "no head" where it needs one; "" where it takes either.
std::string against(GgufTensors::Taken taken, bool there, std::string_view article, std::string_view what) {
  if (taken == GgufTensors::either || there == (taken == GgufTensors::always)) return "";
  return fmt::format("{}{}", there ? article : "no ", what);
}

// llama.cpp opens a file with the tensors that it expects of the architecture, and no other.
Result<void> check_loads(const std::string& path, const Family& family, const Architecture& a) {
  const GgufTensors& tensors = family.gguf.tensors;
  const auto any = [&](auto&& has) { return std::ranges::any_of(a.blocks, has); };
  const RopeScaling::Kind scaling = a.ropes.empty() ? RopeScaling::Kind::none : a.ropes.front().scaling.kind;
  const std::string wrong[] = {
      against(tensors.head, !a.tied, "a ", "head of its own (tie_word_embeddings)"),
      against(tensors.head_bias, a.head_bias, "a ", "bias of its head"),
      against(tensors.qkv_bias, any([](const Block& b) { return b.attention.qkv_bias; }), "",
              "biases of queries, keys and values (attention_bias)"),
      against(tensors.output_bias, any([](const Block& b) { return b.attention.output_bias; }), "a ",
              "bias of attention's output (attention_bias)"),
      against(tensors.ffn_bias, any([](const Block& b) { return b.ffn.bias; }), "", "biases of its FFNs (mlp_bias)"),
      scaling == RopeScaling::Kind::llama3 && !tensors.rope_factors ? "a rope_scaling of the type llama3" : "",
      scaling == RopeScaling::Kind::longrope && !tensors.long_rope ? "a rope_scaling of the type longrope" : "",
      !tensors.any_head_dim && any([&](const Block& b) { return b.attention.q_width() != a.width; })
          ? "heads of another width than hidden_size divided by their number (head_dim)"
          : ""};
  for (const std::string& one : wrong)
    if (!one.empty())
      return fail(ErrorCode::unsupported,
                  "writing {}: the model has {}, which llama.cpp's loader does not take of '{}'; keep the Hugging Face "
                  "folder",
                  path, one, family.gguf.architecture);
  return {};
}

// What GGUF has no key for would be lost without a word: the file says what the model is, or is not left behind.
Result<void> check_written(const std::string& path, const Family& family, const Architecture& a) {
  const auto written = [&]() -> Result<Architecture> {
    const GgufFile gguf = TRY(GgufFile::open(path));
    const Family* const found = TRY(gguf_family(gguf));
    Architecture back = TRY(gguf_architecture(gguf, *found));
    if (found != &family) back.family = family.name;
    return back;
  }();
  if (written && in_f32(*written) == in_f32(a)) return {};
  const std::string why = written ? lost_fields(family, in_f32(*written), in_f32(a)) : written.error().message;
  (void)remove_file(path);
  return fail(ErrorCode::unsupported,
              "writing {}: llama.cpp's metadata for '{}' cannot express this model's {}; keep the Hugging Face folder",
              path, family.gguf.architecture, why.empty() ? "architecture" : why);
}

}  // namespace

const Codec& codec_for_rows(const Codec& wanted, int64_t columns) {
  struct Fallback {
    std::string_view wanted, instead;
  };
  static constexpr auto kFallbacks = std::to_array<Fallback>({{"q4_K", "q5_0"}, {"q5_K", "q5_1"}, {"q6_K", "q8_0"}});
  if (wanted.fits_rows(columns)) return wanted;
  for (const Fallback& fallback : kFallbacks) {
    const Codec* instead = wanted.name == fallback.wanted ? find_codec(fallback.instead) : nullptr;
    if (instead && instead->fits_rows(columns)) return *instead;
  }
  return kF16;
}

Result<GgufWriteReport> write_gguf_model(const std::string& path, const Architecture& architecture,
                                         std::span<const ModelTensor> tensors, const ReadRows& read,
                                         const GgufWriteOptions& options) {
  CHECK_OK(check(architecture, path));
  if (architecture.labels)
    return fail(ErrorCode::unsupported,
                "writing {}: llama.cpp's files have no head that says labels of texts for decoders; write a folder "
                "with --to safetensors",
                path);
  const Family* const family = find_family(architecture.family);
  if (!family || family->gguf.architecture.empty())
    return fail(ErrorCode::unsupported,
                "writing {}: llama.cpp does not run models of family '{}'; keep the Hugging Face folder", path,
                architecture.family);
  CHECK_OK(check_loads(path, *family, architecture));
  GgufWriteReport report;
  const std::vector<FileTensor> files = TRY(plan(*family, architecture, tensors, options, report));
  const std::vector<Factors> factors = TRY(rope_factors(architecture, path));
  GgufWriter writer;
  CHECK_OK(add_metadata(*family, architecture, options, writer));
  for (const Factors& f : factors)
    CHECK_OK(writer.add_tensor(std::string(f.name), kF32.gguf_type, {static_cast<int64_t>(f.numbers.size())}));
  for (const FileTensor& file : files) CHECK_OK(writer.add_tensor(file.name, file.codec->gguf_type, file.shape));
  CHECK_OK(writer.start(path));
  const WriteBytes write = [&](std::span<const std::byte> bytes) { return writer.write(bytes); };
  for (const Factors& f : factors) CHECK_OK(write(std::as_bytes(std::span(f.numbers))));
  for (const FileTensor& file : files) {
    for (const FileTensor::Part& part : file.parts) {
      CHECK_OK(stream_rows({.tensor = *part.tensor,
                            .codec = *file.codec,
                            .order = part.order,
                            .head_dim = part.head_dim,
                            .shift = part.shift},
                           read, write));
    }
  }
  CHECK_OK(writer.finish());
  CHECK_OK(check_written(path, *family, architecture));
  const int64_t window = architecture.blocks.front().attention.window;
  if (family->gguf.ignores_window && window > 0 && window < architecture.context)
    warn(window_note(path, *family, window));
  report.file_bytes = TRY(InputFile::open(path)).size();
  return report;
}

}  // namespace thimble
