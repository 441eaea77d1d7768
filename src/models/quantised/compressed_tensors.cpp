// compressed-tensors: what llm-compressor writes and vLLM reads. 8-bit floating-point numbers (fp8_scaled.h), or rows
// of 2:4 sparse matrices, packed.
//
//   Source  compressed-tensors 0.9, sparse_compressors/sparse_24_bitmask
//   Tensors compressed: [out, in / 2], the two numbers of every four in their order; bitmask: u8 [out, in / 8 rounded
//           up], bit i of byte b is input 8 b + i, two bits of every four; shape: i64 [2, 1], out and in
//   Value   the number of a set bit, 0 elsewhere
//   Choice  bf16 and f16 stay packed (codecs/pattern.h); f32 becomes a full matrix
#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "codecs/pattern.h"
#include "models/quantised/fp8_scaled.h"

namespace thimble {
namespace {

constexpr int64_t kPieceBytes = 256 << 10;
constexpr int64_t kOf = 4, kKeep = 2, kBlock = in_2_4::kBlock;

class Sparse24Rows : public PackedRows {
 public:
  Sparse24Rows(const PackedSource& source, const Codec* codec, PackedPart values, PackedPart mask)
      : PackedRows(codec),
        name_(source.name),
        columns_(source.columns),
        values_(std::move(values)),
        mask_(std::move(mask)) {}

  Result<void> read(std::span<const InputFile> files, int64_t row, int64_t rows,
                    std::span<std::byte> to) const override {
    const int64_t value_bytes = columns_ / kOf * kKeep * values_.entry.codec->block_bytes,
                  mask_bytes = mask_.entry.shape[1], row_bytes = codec()->bytes(columns_);
    const int64_t most = std::max<int64_t>(1, kPieceBytes / (value_bytes + mask_bytes));
    std::vector<std::byte> values, masks;
    for (int64_t done = 0; done < rows; done += most) {
      const int64_t count = std::min(most, rows - done);
      values.resize(static_cast<size_t>(count * value_bytes)), masks.resize(static_cast<size_t>(count * mask_bytes));
      CHECK_OK(read_raw(files, values_, (row + done) * value_bytes, std::span(values)));
      CHECK_OK(read_raw(files, mask_, (row + done) * mask_bytes, std::span(masks)));
      for (int64_t r = 0; r < count; ++r) {
        const std::byte* const mask = masks.data() + r * mask_bytes;
        CHECK_OK(check_mask(row + done + r, {mask, static_cast<size_t>(mask_bytes)}));
        put_row(values.data() + r * value_bytes, mask, to.data() + (done + r) * row_bytes);
      }
    }
    return {};
  }

 private:
  // Two bits of every four, none behind the row: else numbers would be those of other places.
  Result<void> check_mask(int64_t row, std::span<const std::byte> mask) const {
    for (int64_t i = 0; i < 2 * std::ssize(mask); ++i) {
      const auto bits = static_cast<uint32_t>(mask[static_cast<size_t>(i / 2)]) >> i % 2 * 4 & 15;
      const int64_t wanted = i * kOf < columns_ ? kKeep : 0;
      if (std::popcount(bits) != wanted)
        return fail(ErrorCode::corrupt, "reading {}: bitmask, row {}: {} bits of inputs {} to {} are set, expected {}",
                    name_, row, std::popcount(bits), i * kOf, i * kOf + 3, wanted);
    }
    return {};
  }

  void put_row(const std::byte* values, const std::byte* mask, std::byte* to) const {
    if (!pattern_of(*codec())) return put_full(values, mask, to);
    for (int64_t first = 0; first < columns_; first += kBlock, to += in_2_4::kBytes) {
      const int64_t count = std::min(kBlock, columns_ - first);
      uint32_t bits = 0x33333333;  // behind the row
      std::memcpy(&bits, mask + first / 8, static_cast<size_t>((count + 7) / 8));
      if (count % 8 == 4) bits |= 0x30u << (count / 8 * 8);
      std::memcpy(to, &bits, in_2_4::kMaskBytes);
      std::memset(to + in_2_4::kMaskBytes, 0, kBlock);
      std::memcpy(to + in_2_4::kMaskBytes, values + first, static_cast<size_t>(count));  // half of 2 bytes each
    }
  }

  void put_full(const std::byte* values, const std::byte* mask, std::byte* to) const {
    const int64_t element = codec()->block_bytes;
    for (int64_t i = 0; i < columns_; ++i, to += element) {
      const bool set = (static_cast<uint32_t>(mask[i / 8]) >> i % 8 & 1) != 0;
      std::memset(to, 0, static_cast<size_t>(element));
      if (set) std::memcpy(to, std::exchange(values, values + element), static_cast<size_t>(element));
    }
  }

  std::string name_;
  int64_t columns_;
  PackedPart values_, mask_;
};

// "sparsity_config" where its format is not "dense"; nullptr: there is none.
Result<const Json*> sparsity_of(const JsonFields& config) {
  const Json* const found = config.find("sparsity_config");
  if (!found || found->is_null() || (found->is_object() && found->empty())) return nullptr;
  const JsonFields sparsity = TRY(JsonFields::of(*found, config.source()));
  const std::string format = TRY(sparsity.get_or<std::string>("format", "dense"));
  if (format == "dense") return nullptr;
  const std::string structure = TRY(sparsity.get_or<std::string>("sparsity_structure", "2:4"));
  if (format == "sparse-24-bitmask" && structure == "2:4") return found;
  return fail(ErrorCode::unsupported,
              "reading {}: 'sparsity_config' has the format '{}' of structure '{}'; thimble reads sparse-24-bitmask of "
              "2:4, and dense",
              config.source(), format, structure);
}

bool quantises(const JsonFields& config) {
  const Json* const groups = config.find("config_groups");
  return groups && !groups->empty();
}

Result<void> check(const JsonFields& config) {
  const bool sparse = TRY(sparsity_of(config)) != nullptr;
  if (sparse && quantises(config))
    return fail(ErrorCode::unsupported,
                "reading {}: 'sparsity_config' and 'config_groups': numbers are quantised and sparse; thimble reads "
                "one or the other",
                config.source());
  if (sparse || (config.has("sparsity_config") && !quantises(config))) return {};
  if (const Json* const transform = config.find("transform_config"); transform && !transform->empty())
    return fail(ErrorCode::unsupported,
                "reading {}: 'transform_config': inputs of layers are turned while the model runs, which is not done; "
                "take a checkpoint without",
                config.source());
  const std::string format = TRY(config.get_or<std::string>("format", ""));
  if (format == "float-quantized" || format == "naive-quantized") return {};
  return fail(ErrorCode::unsupported,
              "reading {}: the 'format' of compressed-tensors is '{}'; thimble reads float-quantized (fp8), and "
              "sparse-24-bitmask as 'sparsity_config'",
              config.source(), format);
}

Result<std::shared_ptr<const PackedRows>> open_sparse(const PackedSource& source) {
  const PackedPart* const values = source.find(".compressed");
  if (!values) return nullptr;
  const int64_t rows = source.rows, columns = source.columns;
  if (columns % kOf != 0)
    return fail(ErrorCode::corrupt, "reading {}: rows of {} numbers are no whole groups of {}", source.name, columns,
                kOf);
  CHECK_OK(check_part(source, *values, {rows, columns / kOf * kKeep}, {"BF16", "F16", "F32"}));
  const PackedPart mask = TRY(packed_part(source, ".bitmask", {rows, (columns + 7) / 8}, {"U8"}));
  const PackedPart shape = TRY(packed_part(source, ".shape", {2, 1}, {"I64"}));
  std::array<int64_t, 2> said;
  CHECK_OK(read_raw(source.files, shape, 0, std::span<int64_t>(said)));
  if (said[0] != rows || said[1] != columns)
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' says [{}, {}], config.json [{}, {}]", source.name,
                shape.entry.name, said[0], said[1], rows, columns);
  const Codec* const dense = values->entry.codec;
  const Codec* const codec = dense == &kBf16 ? &kBf16In24 : dense == &kF16 ? &kF16In24 : dense;
  return std::make_shared<Sparse24Rows>(source, codec, *values, mask);
}

Result<std::shared_ptr<const PackedRows>> open(const Quantisation& quantisation, const PackedSource& source) {
  const JsonFields config = TRY(JsonFields::of(*quantisation.config, quantisation.source));
  if (TRY(sparsity_of(config))) return open_sparse(source);
  return quantises(config) || config.has("format") ? open_fp8_scaled(source) : nullptr;
}

}  // namespace

const QuantMethod kQuantCompressedTensors = {
    .name = "compressed-tensors",
    .description = "f8_e4m3 with a scale a matrix, row or block, or packed 2:4 (llm-compressor)",
    .check = check,
    .open = open};

}  // namespace thimble
