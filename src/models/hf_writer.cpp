#include "models/hf_writer.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "codecs/pattern.h"
#include "files/json.h"
#include "files/safetensors.h"
#include "models/families.h"
#include "models/hf_config.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

// One tensor of the file, made of one of ours, or of several that share it.
struct FileTensor {
  struct Part {
    const ModelTensor* tensor;
    int64_t run;  // rows of it before the next part's
    RowOrder order;
    int64_t head_dim;
  };
  std::string name;
  Shape shape;
  const Codec* codec;
  std::vector<Part> parts;
  bool transposed = false;

  const Pattern* pattern() const { return pattern_of(*codec); }
  // Of a packed matrix three, which compressed_tensors.cpp reads.
  std::vector<SafetensorsTensor> tensors() const {
    const Pattern* const packed = pattern();
    if (!packed) return {{name, codec->safetensors, shape}};
    return {{module() + ".compressed", packed->dense->safetensors, {shape[0], shape[1] / packed->of * packed->keep}},
            {module() + ".bitmask", "U8", {shape[0], mask_bytes()}},
            {module() + ".shape", "I64", {2, 1}}};
  }
  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const SafetensorsTensor& tensor : tensors())
      sum += static_cast<uint64_t>(tensor.shape.count()) * *safetensors_element_bytes(tensor.dtype);
    return sum;
  }
  int64_t mask_bytes() const { return (shape[1] + 7) / 8; }  // of a row
  std::string module() const { return name.substr(0, name.size() - kWeight.size()); }
  static constexpr std::string_view kWeight = ".weight";
};

// Patterns are those of the blocks' matrices; all else is written in full.
Result<const Codec*> codec_for(const ModelTensor& tensor, const FilePlace& place, const HfWriteOptions& options) {
  const Codec* codec = options.codec ? options.codec : tensor.codec;
  if (const Pattern* const pattern = pattern_of(*codec)) {
    if (tensor.shape.rank() != 2 || !tensor.name.starts_with("model.layers.") ||
        !place.name.ends_with(FileTensor::kWeight))
      return pattern->dense;
    if (place.transposed || tensor.shape[1] % pattern->of != 0)
      return fail(ErrorCode::unsupported, "writing tensor '{}' of shape {} in codec {}: {}; choose {}", tensor.name,
                  tensor.shape.text(), codec->name,
                  place.transposed ? "the family's files have inputs for rows, which sparse-24-bitmask has no form for"
                                   : fmt::format("its rows are no whole groups of {}", pattern->of),
                  pattern->dense->name);
    return codec;
  }
  if (!codec->safetensors.empty()) return codec;
  return fail(ErrorCode::unsupported, "writing tensor '{}': safetensors has no format {}; convert to bf16, f16 or f32",
              tensor.name, codec->name);
}

// How rows of q and k go from the layout of the model's rope to that of the family's files.
RowOrder order_of(const Family& family, const Architecture& a, const std::string& name) {
  const Attention* const attention = is_q_or_k(name) ? &a.blocks[block_of(name)].attention : nullptr;
  if (!attention || attention->rope < 0) return RowOrder::same;
  const Rope::Layout layout = a.ropes[static_cast<size_t>(attention->rope)].layout;
  if (layout == family.rope_layout) return RowOrder::same;
  return layout == Rope::Layout::interleaved ? RowOrder::interleaved_to_halves : RowOrder::halves_to_interleaved;
}

Result<std::vector<FileTensor>> plan(const Family& family, const Architecture& a, std::span<const ModelTensor> tensors,
                                     const HfWriteOptions& options) {
  std::vector<FileTensor> files;
  std::map<std::string, size_t> index;
  for (const ModelTensor* tensor : TRY(tensors_in_order(a, tensors))) {
    const FilePlace place = place_in_file(family, a, {tensor->name, tensor->shape, {}});
    const FileTensor::Part part{tensor, place.run, order_of(family, a, tensor->name), head_dim_of(a, tensor->name)};
    // The tensor may have been begun anywhere before: weights and biases alternate.
    if (const auto [file, begun] = index.emplace(place.name, files.size()); !begun) {
      files[file->second].parts.push_back(part);
      continue;
    }
    Shape shape{place.rows};
    if (tensor->shape.rank() == 2)
      shape = place.transposed ? Shape{tensor->shape[1], place.rows} : Shape{place.rows, tensor->shape[1]};
    const Codec* const codec = TRY(codec_for(*tensor, place, options));
    files.push_back({place.name, shape, codec, {part}, place.transposed});
  }
  return files;
}

Result<void> write_rows(const FileTensor& file, const ReadRows& read, const WriteBytes& write) {
  if (file.transposed) {
    std::vector<const ModelTensor*> tensors;
    for (const FileTensor::Part& part : file.parts) tensors.push_back(part.tensor);
    return stream_transposed(tensors, *file.codec, read, write);
  }
  // Runs of the parts alternate.
  const auto rows = [](const FileTensor::Part& part) { return part.tensor->shape[0]; };
  for (int64_t turn = 0; turn * file.parts[0].run < rows(file.parts[0]); ++turn)
    for (const FileTensor::Part& part : file.parts)
      CHECK_OK(stream_rows({.tensor = *part.tensor,
                            .codec = *file.codec,
                            .order = part.order,
                            .head_dim = part.head_dim,
                            .first = turn * part.run,
                            .count = part.run},
                           read, write));
  return {};
}

// The values of all rows, then their masks: rows are read twice.
Result<void> write_packed(const FileTensor& file, const ReadRows& read, const WriteBytes& write) {
  constexpr size_t kPiece = 64 << 10;
  const int64_t columns = file.shape[1], row_bytes = file.codec->bytes(columns);
  std::vector<std::byte> part;
  part.reserve(kPiece);
  const auto flush = [&] {
    auto written = write(part);
    part.clear();
    return written;
  };
  for (const bool values : {true, false}) {
    CHECK_OK(write_rows(file, read, [&](std::span<const std::byte> rows) -> Result<void> {
      for (const std::byte* row = rows.data(); row < rows.data() + rows.size(); row += row_bytes)
        for (int64_t first = 0; first < columns; first += in_2_4::kBlock) {
          if (part.size() + in_2_4::kBlock > kPiece) CHECK_OK(flush());
          const int64_t count = std::min(in_2_4::kBlock, columns - first);
          const std::byte* const block = row + file.codec->bytes(first);
          const std::byte* const from = values ? block + in_2_4::kMaskBytes : block;
          part.insert(part.end(), from, from + (values ? count : (count + 7) / 8));
          if (!values && count % 8 == 4) part.back() &= std::byte{0x0f};  // nothing behind the row
        }
      return {};
    }));
    CHECK_OK(flush());
  }
  const int64_t shape[] = {file.shape[0], columns};
  return write(std::as_bytes(std::span(shape)));
}

Result<void> write_file(const std::string& path, std::span<const FileTensor> files, const ReadRows& read) {
  std::vector<SafetensorsTensor> list;
  for (const FileTensor& file : files)
    for (SafetensorsTensor& tensor : file.tensors()) list.push_back(std::move(tensor));
  SafetensorsWriter writer = TRY(SafetensorsWriter::create(path, list));
  const WriteBytes write = [&](std::span<const std::byte> bytes) { return writer.write(bytes); };
  for (const FileTensor& file : files) CHECK_OK((file.pattern() ? write_packed : write_rows)(file, read, write));
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

Result<void> write_weights(const std::string& folder, std::span<const FileTensor> files, const ReadRows& read,
                           int64_t shard_bytes) {
  const std::string single = folder + "/model.safetensors", index = folder + "/model.safetensors.index.json";
  const std::vector<size_t> ends = shard_ends(files, shard_bytes);
  // A leftover of an earlier save would be read instead of, or beside, what is written now.
  if (ends.size() == 1) {
    CHECK_OK(remove_file(index));
    return write_file(single, files, read);
  }
  CHECK_OK(remove_file(single));
  nlohmann::ordered_json json;
  uint64_t total = 0;
  for (const FileTensor& file : files) total += file.bytes();
  json["metadata"]["total_size"] = total;
  for (size_t shard = 0, begin = 0; shard < ends.size(); begin = ends[shard++]) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, ends.size());
    const auto part = files.subspan(begin, ends[shard] - begin);
    CHECK_OK(write_file(folder + "/" + name, part, read));
    for (const FileTensor& file : part)
      for (const SafetensorsTensor& tensor : file.tensors()) json["weight_map"][tensor.name] = name;
  }
  return write_text_file(index, json_text(json));
}

// "quantization_config" of a folder with packed matrices; null where there are none.
nlohmann::ordered_json quantization_of(std::span<const FileTensor> files) {
  int64_t zeros = 0, all = 0;
  nlohmann::ordered_json ignored = nlohmann::ordered_json::array();
  for (const FileTensor& file : files) {
    all += file.shape.count();
    if (const Pattern* const p = file.pattern())
      zeros += file.shape.count() / p->of * (p->of - p->keep);
    else if (file.shape.rank() == 2 && file.name.ends_with(FileTensor::kWeight) &&
             file.parts.front().tensor->name.find("embed") == std::string::npos)
      ignored.push_back(file.module());
  }
  if (zeros == 0) return nullptr;
  return {{"quant_method", "compressed-tensors"},
          {"sparsity_config",
           {{"format", "sparse-24-bitmask"},
            {"global_sparsity", static_cast<double>(zeros) / static_cast<double>(all)},
            {"ignore", ignored},
            {"registry_requires_subclass", false},
            {"sparsity_structure", "2:4"},
            {"targets", {"Linear"}}}}};
}

std::string torch_dtype(const Codec& codec) {
  if (codec.safetensors == "BF16") return "bfloat16";
  return codec.safetensors == "F16" ? "float16" : "float32";
}

}  // namespace

Result<void> write_hf_model(const std::string& folder, const Architecture& architecture,
                            std::span<const ModelTensor> tensors, const ReadRows& read, const HfWriteOptions& options) {
  CHECK_OK(check(architecture, folder));
  const Family* const family = find_family(architecture.family);
  if (!family)
    return fail(ErrorCode::unsupported, "writing {}: transformers' family of '{}' is not known", folder,
                architecture.family);
  const std::vector<FileTensor> files = TRY(plan(*family, architecture, tensors, options));
  const std::string config =
      TRY(config_text(architecture, {torch_dtype(*files.front().codec), options.ids, quantization_of(files)}));
  CHECK_OK(make_directories(folder));
  CHECK_OK(remove_file(folder + "/config.json"));
  CHECK_OK(write_weights(folder, files, read, options.shard_bytes));
  return write_text_file(folder + "/config.json", config);
}

int64_t hf_write_bytes(const Architecture& architecture) {
  const Family* const family = find_family(architecture.family);
  return stream_bytes(architecture, family && family->transposed);
}

}  // namespace thimble
