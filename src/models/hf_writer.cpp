#include "models/hf_writer.h"

#include <algorithm>
#include <filesystem>

#include "files/json.h"
#include "files/safetensors.h"
#include "models/hf_config.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

// One tensor of the file, made of one of ours, or of q, k and v.
struct FileTensor {
  std::string name;
  Shape shape;
  const Codec* codec;
  std::vector<const ModelTensor*> parts;
  bool transposed = false;
  RowOrder order = RowOrder::same;
  uint64_t bytes() const { return static_cast<uint64_t>(codec->bytes(shape.count())); }
};

Result<const Codec*> codec_for(const ModelTensor& tensor, const HfWriteOptions& options) {
  const Codec* codec = options.codec ? options.codec : tensor.codec;
  if (!codec->safetensors.empty()) return codec;
  return fail(ErrorCode::unsupported, "writing tensor '{}': safetensors has no format {}; convert to bf16, f16 or f32",
              tensor.name, codec->name);
}

Result<std::vector<FileTensor>> plan(const Architecture& a, std::span<const ModelTensor> tensors,
                                     const HfWriteOptions& options) {
  const bool gpt2 = a.family == "gpt2";
  std::vector<FileTensor> files;
  for (const ModelTensor* tensor : TRY(tensors_in_order(a, tensors))) {
    const ForeignName foreign = gpt2 ? gpt2_name(tensor->name) : ForeignName{tensor->name};
    const Codec* const codec = TRY(codec_for(*tensor, options));
    FileTensor file{foreign.name, tensor->shape, codec, {tensor}};
    if (gpt2) {
      file.transposed = tensor->name.starts_with("model.layers.") && tensor->shape.rank() == 2;
      if (file.transposed) file.shape = {tensor->shape[1], tensor->shape[0]};
      // k and v join the tensor that their q began, wherever it is: weights and biases alternate.
      if (foreign.part > 0) {
        auto fused = std::find_if(files.begin(), files.end(), [&](const auto& f) { return f.name == foreign.name; });
        fused->parts.push_back(tensor);
        const int64_t out = fused->shape.columns() + file.shape.columns();
        fused->shape = fused->transposed ? Shape{fused->shape[0], out} : Shape{out};
        continue;
      }
    } else if (a.rope_layout == Architecture::RopeLayout::interleaved && is_q_or_k(tensor->name)) {
      file.order = RowOrder::interleaved_to_halves;
    }
    files.push_back(std::move(file));
  }
  return files;
}

Result<void> write_file(const std::string& path, std::span<const FileTensor> files, int64_t head_dim,
                        const ReadRows& read) {
  std::vector<SafetensorsTensor> list;
  for (const FileTensor& file : files) list.push_back({file.name, file.codec->safetensors, file.shape});
  SafetensorsWriter writer = TRY(SafetensorsWriter::create(path, list));
  const WriteBytes write = [&](std::span<const std::byte> bytes) { return writer.write(bytes); };
  for (const FileTensor& file : files) {
    if (file.transposed) {
      CHECK_OK(stream_transposed(file.parts, *file.codec, read, write));
      continue;
    }
    for (const ModelTensor* part : file.parts) {
      CHECK_OK(stream_rows({*part, *file.codec, file.order, head_dim}, read, write));
    }
  }
  return writer.finish();
}

// Ends of the shards, as indices into `files`.
std::vector<size_t> shard_ends(std::span<const FileTensor> files, int64_t shard_bytes) {
  std::vector<size_t> ends;
  uint64_t bytes = 0;
  for (size_t i = 0; i < files.size(); ++i) {
    if (bytes > 0 && bytes + files[i].bytes() > static_cast<uint64_t>(shard_bytes)) {
      ends.push_back(i);
      bytes = 0;
    }
    bytes += files[i].bytes();
  }
  ends.push_back(files.size());
  return ends;
}

// A leftover of an earlier save would be read instead of, or beside, what is written now.
void remove_leftover(const std::string& path) {
  std::error_code absent;
  std::filesystem::remove(path, absent);
}

Result<void> write_weights(const std::string& folder, std::span<const FileTensor> files, int64_t head_dim,
                           const ReadRows& read, int64_t shard_bytes) {
  const std::string single = folder + "/model.safetensors", index = folder + "/model.safetensors.index.json";
  const std::vector<size_t> ends = shard_ends(files, shard_bytes);
  if (ends.size() == 1) {
    remove_leftover(index);
    return write_file(single, files, head_dim, read);
  }
  remove_leftover(single);
  nlohmann::ordered_json json;
  uint64_t total = 0;
  for (const FileTensor& file : files) total += file.bytes();
  json["metadata"]["total_size"] = total;
  for (size_t shard = 0, begin = 0; shard < ends.size(); begin = ends[shard++]) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, ends.size());
    const auto part = files.subspan(begin, ends[shard] - begin);
    CHECK_OK(write_file(folder + "/" + name, part, head_dim, read));
    for (const FileTensor& file : part) json["weight_map"][file.name] = name;
  }
  return write_text_file(index, json_text(json));
}

std::string torch_dtype(const Codec& codec) {
  if (codec.safetensors == "BF16") return "bfloat16";
  return codec.safetensors == "F16" ? "float16" : "float32";
}

}  // namespace

Result<void> write_hf_model(const std::string& folder, const Architecture& architecture,
                            std::span<const ModelTensor> tensors, const ReadRows& read, const HfWriteOptions& options) {
  CHECK_OK(check(architecture, folder));
  const std::vector<FileTensor> files = TRY(plan(architecture, tensors, options));
  const std::string config =
      TRY(config_text(architecture, {torch_dtype(*files.front().codec), options.bos, options.eos}));
  CHECK_OK(make_directories(folder));
  remove_leftover(folder + "/config.json");
  CHECK_OK(write_weights(folder, files, architecture.head_dim, read, options.shard_bytes));
  return write_text_file(folder + "/config.json", config);
}

int64_t hf_write_bytes(const Architecture& architecture) {
  return stream_bytes(architecture, architecture.family == "gpt2");
}

}  // namespace thimble
