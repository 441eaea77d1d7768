#include "models/gguf_writer.h"

#include <algorithm>
#include <array>

#include "models/gguf_metadata.h"
#include "models/rope_factors.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

// One tensor of the file, made of one of ours, or of q, k and v.
struct FileTensor {
  std::string name;
  Shape shape;
  const Codec* codec;
  std::vector<const ModelTensor*> parts;
  RowOrder order = RowOrder::same;
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

Result<std::vector<FileTensor>> plan(const Architecture& a, std::span<const ModelTensor> tensors,
                                     const GgufWriteOptions& options, GgufWriteReport& report) {
  // llama.cpp turns pairs (2i, 2i + 1) in its llama family and halves in the others.
  const bool interleaves = gguf_family(a) == "llama";
  const bool interleaved = a.rope_layout == Architecture::RopeLayout::interleaved;
  std::vector<FileTensor> files;
  for (const ModelTensor* tensor : TRY(tensors_in_order(a, tensors))) {
    const ForeignName foreign = gguf_name(tensor->name, a.family == "gpt2");
    const Codec* codec = TRY(choose_codec(*tensor, options, report.replaced));
    if (foreign.part > 0) {
      auto fused = std::find_if(files.begin(), files.end(), [&](const auto& f) { return f.name == foreign.name; });
      const int64_t rows = fused->shape[0] + tensor->shape[0];
      fused->shape = tensor->shape.rank() == 1 ? Shape{rows} : Shape{rows, tensor->shape[1]};
      fused->parts.push_back(tensor);
      continue;
    }
    FileTensor file{foreign.name, tensor->shape, codec, {tensor}};
    if (is_q_or_k(tensor->name) && a.position == Architecture::Position::rope && interleaves != interleaved) {
      file.order = interleaves ? RowOrder::halves_to_interleaved : RowOrder::interleaved_to_halves;
    }
    files.push_back(std::move(file));
  }
  return files;
}

constexpr std::string_view kRopeFactors = "rope_freqs.weight";

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
  GgufWriteReport report;
  const std::vector<FileTensor> files = TRY(plan(architecture, tensors, options, report));
  GgufWriter writer;
  CHECK_OK(add_metadata(architecture, options, writer));
  std::vector<float> factors;
  if (architecture.rope_scaling.kind == RopeScaling::Kind::llama3) {
    factors = llama3_rope_factors(architecture.rope_scaling, architecture.rope_base, architecture.head_dim);
    if (!recognise_rope_factors(factors, architecture.rope_base))
      return fail(ErrorCode::unsupported,
                  "writing {}: the divisors of this model's rope_scaling (original_max_position_embeddings {}, "
                  "low_freq_factor {}, high_freq_factor {}) could not be read again; keep the Hugging Face folder",
                  path, architecture.rope_scaling.original_context, architecture.rope_scaling.low_frequency_factor,
                  architecture.rope_scaling.high_frequency_factor);
    CHECK_OK(writer.add_tensor(kRopeFactors, kF32.gguf_type, {static_cast<int64_t>(factors.size())}));
  }
  for (const FileTensor& file : files) CHECK_OK(writer.add_tensor(file.name, file.codec->gguf_type, file.shape));
  CHECK_OK(writer.start(path));
  const WriteBytes write = [&](std::span<const std::byte> bytes) { return writer.write(bytes); };
  CHECK_OK(write(std::as_bytes(std::span(factors))));
  for (const FileTensor& file : files) {
    for (const ModelTensor* part : file.parts) {
      CHECK_OK(stream_rows({*part, *file.codec, file.order, architecture.head_dim}, read, write));
    }
  }
  CHECK_OK(writer.finish());
  report.file_bytes = TRY(InputFile::open(path)).size();
  return report;
}

}  // namespace thimble
