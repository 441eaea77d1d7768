// 8-bit floating-point numbers (E4M3) with a scale for the matrix, for each row, or for each block of it.
//
//   Source  Micikevicius et al. 2022, arXiv:2209.05433; transformers, integrations/finegrained_fp8 (Fp8Dequantize);
//           compressed-tensors, quantization/lifecycle/forward (_dequantize)
//   Tensors weight: f8_e4m3 [out, in]; weight_scale_inv or weight_scale: one number, [out, 1], or [out / m, in / n]
//   Value   w = q scale. In f32, then rounded to the model's type (fp8, fbgemm_fp8, modelopt); or in the type of the
//           scales (compressed-tensors)
//   Choice  scales of activations are left out, as thimble does not quantise activations: that is said
#include "models/quantised/fp8_scaled.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/warnings.h"

namespace thimble {
namespace {

// Of the 256 codes: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinities, NaN is all ones.
const std::array<float, 256>& values() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> value{};
    for (int code = 0; code < 256; ++code) {
      const int exponent = code >> 3 & 15, mantissa = code & 7;
      float x = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
      if (exponent == 15 && mantissa == 7) x = std::numeric_limits<float>::quiet_NaN();
      value[static_cast<size_t>(code)] = code < 128 ? x : -x;
    }
    return value;
  }();
  return table;
}

// Rows and columns that share a scale.
struct Block {
  int64_t rows, columns;
};

class Fp8Rows : public PackedRows {
 public:
  Fp8Rows(const Codec* codec, int64_t columns, PackedPart weight, PackedPart scale, Block block)
      : PackedRows(codec),
        columns_(columns),
        weight_(std::move(weight)),
        scale_(std::move(scale)),
        block_(block),
        scales_a_row_((columns + block.columns - 1) / block.columns) {}

  Result<void> read(std::span<const InputFile> files, int64_t row, int64_t rows,
                    std::span<std::byte> to) const override {
    std::vector<uint8_t> codes(static_cast<size_t>(columns_));
    std::vector<float> scales(static_cast<size_t>(scales_a_row_)), numbers(codes.size());
    const std::array<float, 256>& value = values();
    for (int64_t r = 0; r < rows; ++r) {
      CHECK_OK(read_raw(files, weight_, (row + r) * columns_, std::span(codes)));
      if (r == 0 || (row + r) % block_.rows == 0)
        CHECK_OK(read_numbers(files, scale_, (row + r) / block_.rows * scales_a_row_, scales));
      for (size_t i = 0; i < codes.size(); ++i)
        numbers[i] = value[codes[i]] * scales[i / static_cast<size_t>(block_.columns)];
      codec()->encode(numbers.data(), to.data() + r * columns_ * codec()->block_bytes, columns_);
    }
    return {};
  }

 private:
  int64_t columns_;
  PackedPart weight_, scale_;
  Block block_;
  int64_t scales_a_row_;
};

// The block that a scale is for, by the shape of the scales and the size that the configuration names (0, 0: none).
Result<Block> block_of(const PackedSource& source, const PackedPart& scale, Block named) {
  const int64_t rows = source.rows, columns = source.columns;
  const Shape& shape = scale.entry.shape;
  if (shape.count() == 1) return Block{rows, columns};
  if (shape == Shape{rows} || shape == Shape{rows, 1}) return Block{1, columns};
  if (shape.rank() == 2 && shape.count() > 0) {
    Block block = named;
    if (block.rows == 0 && rows % shape[0] == 0 && columns % shape[1] == 0)
      block = {rows / shape[0], columns / shape[1]};
    if (block.rows > 0 &&
        shape == Shape{(rows + block.rows - 1) / block.rows, (columns + block.columns - 1) / block.columns})
      return block;
  }
  return fail(ErrorCode::corrupt,
              "reading {}: scales '{}' of shape {} fit no matrix of shape [{}, {}] in blocks of {} x {}", source.name,
              scale.entry.name, shape.text(), rows, columns, named.rows, named.columns);
}

// "weight_block_size" of transformers: two positive numbers; none: {0, 0}.
Result<Block> named_block(const JsonFields& config) {
  const Json* const size = config.find("weight_block_size");
  if (!size) return Block{0, 0};
  constexpr int64_t kMost = 1 << 30;
  const auto extent = [&](const Json& of) {
    return of.is_number_integer() && of.get<int64_t>() > 0 && of.get<int64_t>() <= kMost;
  };
  if (size->is_array() && size->size() == 2 && extent((*size)[0]) && extent((*size)[1]))
    return Block{(*size)[0].get<int64_t>(), (*size)[1].get<int64_t>()};
  return fail(ErrorCode::corrupt, "reading {}: 'weight_block_size' should be two numbers from 1 to {}, found {}",
              config.source(), kMost, size->dump());
}

Result<std::shared_ptr<const PackedRows>> open_scaled(const PackedSource& source, Block named, const Codec* to) {
  const PackedPart* const weight = source.find(".weight");
  if (!weight || weight->entry.dtype != "F8_E4M3") return nullptr;
  CHECK_OK(check_part(source, *weight, {source.rows, source.columns}, {"F8_E4M3"}));
  for (const char* left_out : {".input_scale", ".activation_scale", ".input_scale_ub", ".k_scale", ".v_scale"})
    if (source.find(left_out)) warn(std::string(kFullActivations));
  const PackedPart* scale = source.find(".weight_scale_inv");
  if (!scale) scale = source.find(".weight_scale");
  if (!scale)
    return fail(ErrorCode::corrupt, "reading {}: there is neither weight_scale_inv nor weight_scale of it",
                source.name);
  CHECK_OK(check_part(source, *scale, scale->entry.shape, {"F32", "BF16", "F16"}));
  const Block block = TRY(block_of(source, *scale, named));
  return std::make_shared<Fp8Rows>(to ? to : scale->entry.codec, source.columns, *weight, *scale, block);
}

Result<void> check_fp8(const JsonFields& config) {
  TRY(named_block(config));
  return {};
}

Result<std::shared_ptr<const PackedRows>> open_fp8(const Quantisation& quantisation, const PackedSource& source) {
  const JsonFields config = TRY(JsonFields::of(*quantisation.config, quantisation.source));
  return open_scaled(source, TRY(named_block(config)), quantisation.dtype);
}

Result<void> check_modelopt(const JsonFields& config) {
  const std::string algorithm = TRY(config.get<std::string>("quant_algo"));
  if (algorithm == "FP8" || algorithm == "FP8_PER_CHANNEL_PER_TOKEN" || algorithm == "FP8_PB_WO") return {};
  return fail(ErrorCode::unsupported, "reading {}: 'quant_algo' of modelopt is '{}'; thimble reads FP8",
              config.source(), algorithm);
}

}  // namespace

Result<std::shared_ptr<const PackedRows>> open_fp8_scaled(const PackedSource& source) {
  return open_scaled(source, {0, 0}, nullptr);
}

const QuantMethod kQuantFp8 = {.name = "fp8",
                               .description = "f8_e4m3 with a scale a block, as DeepSeek and Qwen publish them",
                               .check = check_fp8,
                               .open = open_fp8};
const QuantMethod kQuantFbgemmFp8 = {
    .name = "fbgemm_fp8", .description = "f8_e4m3 with a scale a row", .check = check_fp8, .open = open_fp8};
const QuantMethod kQuantModelopt = {.name = "modelopt",
                                    .description = "f8_e4m3 with one scale a matrix, of NVIDIA's Model Optimizer",
                                    .check = check_modelopt,
                                    .open = open_fp8};

}  // namespace thimble
