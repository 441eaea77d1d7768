// bitsandbytes: 4-bit codes of a table of 16 levels (nf4, fp4) with a scale a block, or 8-bit rows (LLM.int8()).
//
//   Source  Dettmers et al. 2023, arXiv:2305.14314, and 2022, arXiv:2208.07339; bitsandbytes, functional.py
//           (QuantState, dequantize_4bit, int8_vectorwise_dequant)
//   4 bits  weight: u8 [numbers / 2, 1], the number before in the upper half; absmax: f32 a block, or u8 with
//           nested_absmax and nested_quant_map (double quantisation); quant_map: f32 [16];
//           quant_state.bitsandbytes__nf4 (or fp4): JSON as bytes. w = quant_map[code] absmax, in f32, rounded to the
//           "dtype" of the state
//   8 bits  weight: i8 [out, in]; SCB: f32 [out]. w = q SCB / 127, in f32, rounded to the model's type (f16 where
//           config.json names none)
//   Choice  blocks of 64 whose dtype is float32 stay nf4, or nf4_double where its blocks lie within groups of nested
//           scales (our codecs have the same bits); all else becomes numbers
#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "models/quantised/parts.h"

namespace thimble {
namespace {

constexpr uint64_t kLargestState = 64 << 10;
constexpr int64_t kLargestBlock = 1 << 16;

struct Scales {
  PackedPart absmax;
  // Double quantisation: absmax = map[code] nested[block / nested_block] + offset.
  std::optional<PackedPart> nested;
  std::array<float, 256> map = {};
  int64_t nested_block = 0;
  float offset = 0;
};

class FourBitRows : public PackedRows {
 public:
  FourBitRows(const Codec* codec, int64_t columns, PackedPart weight, std::array<float, 16> levels, int64_t block,
              Scales scales)
      : PackedRows(codec),
        columns_(columns),
        weight_(std::move(weight)),
        levels_(levels),
        block_(block),
        scales_(std::move(scales)) {}

  Result<void> read(std::span<const InputFile> files, int64_t row, int64_t rows,
                    std::span<std::byte> to) const override {
    const size_t row_bytes = static_cast<size_t>(codec()->bytes(columns_));
    for (int64_t r = 0; r < rows; ++r)
      CHECK_OK(read_row(files, (row + r) * columns_, to.subspan(static_cast<size_t>(r) * row_bytes, row_bytes)));
    return {};
  }

 private:
  // The scales of blocks [first, first + to.size()).
  Result<void> read_scales(std::span<const InputFile> files, int64_t first, std::span<float> to) const {
    if (!scales_.nested) return read_numbers(files, scales_.absmax, first, to);
    std::vector<uint8_t> codes(to.size());
    CHECK_OK(read_raw(files, scales_.absmax, first, std::span(codes)));
    const int64_t last = first + static_cast<int64_t>(to.size()) - 1, from = first / scales_.nested_block;
    std::vector<float> nested(static_cast<size_t>(last / scales_.nested_block - from + 1));
    CHECK_OK(read_numbers(files, *scales_.nested, from, nested));
    for (size_t i = 0; i < to.size(); ++i) {
      const int64_t group = (first + static_cast<int64_t>(i)) / scales_.nested_block - from;
      to[i] = scales_.map[codes[i]] * nested[static_cast<size_t>(group)] + scales_.offset;
    }
    return {};
  }

  // The row that begins with element `first` of the matrix.
  Result<void> read_row(std::span<const InputFile> files, int64_t first, std::span<std::byte> to) const {
    const int64_t byte = first / 2, end = (first + columns_ + 1) / 2, block = first / block_;
    std::vector<std::byte> pairs(static_cast<size_t>(end - byte));
    CHECK_OK(read_raw(files, weight_, byte, std::span(pairs)));
    const int64_t blocks = (first + columns_ - 1) / block_ - block + 1;
    if (codec() == &kNf4Double) return put_double(files, block, blocks, pairs, to);
    std::vector<float> scales(static_cast<size_t>(blocks));
    CHECK_OK(read_scales(files, block, scales));
    if (codec() == &kNf4) return put_blocks(pairs, scales, to), Result<void>();
    std::vector<float> numbers(static_cast<size_t>(columns_));
    for (int64_t i = 0; i < columns_; ++i) {
      const int64_t at = first + i;
      const int pair = std::to_integer<int>(pairs[static_cast<size_t>(at / 2 - byte)]);
      numbers[static_cast<size_t>(i)] = levels_[static_cast<size_t>(at % 2 == 0 ? pair >> 4 : pair & 15)] *
                                        scales[static_cast<size_t>(at / block_ - block)];
    }
    codec()->encode(numbers.data(), to.data(), columns_);
    return {};
  }

  // Blocks of the codec nf4: a scale and its codes, in bitsandbytes' order.
  static void put_blocks(std::span<const std::byte> pairs, std::span<const float> scales, std::span<std::byte> to) {
    const size_t codes = static_cast<size_t>(kNf4.block / 2), bytes = static_cast<size_t>(kNf4.block_bytes);
    for (size_t b = 0; b < scales.size(); ++b) {
      std::memcpy(to.data() + b * bytes, &scales[b], sizeof(float));
      std::memcpy(to.data() + b * bytes + sizeof(float), pairs.data() + b * codes, codes);
    }
  }

  // Blocks of the codec nf4_double: the matrix's offset, the nested scale, then codes of scales and numbers in turn.
  Result<void> put_double(std::span<const InputFile> files, int64_t first, int64_t blocks,
                          std::span<const std::byte> pairs, std::span<std::byte> to) const {
    const int64_t together = kNf4Double.block / kNf4.block, codes = kNf4.block / 2;
    std::vector<uint8_t> scales(static_cast<size_t>(blocks));
    CHECK_OK(read_raw(files, scales_.absmax, first, std::span(scales)));
    std::byte* at = to.data();
    for (int64_t b = 0; b < blocks; ++b) {
      if (b % together == 0) {
        float nested = 0;
        CHECK_OK(read_numbers(files, *scales_.nested, (first + b) / scales_.nested_block, {&nested, 1}));
        std::memcpy(at, &scales_.offset, sizeof(float));
        std::memcpy(at + sizeof(float), &nested, sizeof(float));
        at += 2 * sizeof(float);
      }
      *at++ = static_cast<std::byte>(scales[static_cast<size_t>(b)]);
      std::memcpy(at, pairs.data() + b * codes, static_cast<size_t>(codes));
      at += codes;
    }
    return {};
  }

  int64_t columns_;
  PackedPart weight_;
  std::array<float, 16> levels_;
  int64_t block_;
  Scales scales_;
};

class EightBitRows : public PackedRows {
 public:
  EightBitRows(const Codec* codec, int64_t columns, PackedPart weight, PackedPart scales)
      : PackedRows(codec), columns_(columns), weight_(std::move(weight)), scales_(std::move(scales)) {}

  Result<void> read(std::span<const InputFile> files, int64_t row, int64_t rows,
                    std::span<std::byte> to) const override {
    std::vector<int8_t> q(static_cast<size_t>(columns_));
    std::vector<float> numbers(q.size());
    for (int64_t r = 0; r < rows; ++r) {
      float scale = 0;
      CHECK_OK(read_numbers(files, scales_, row + r, {&scale, 1}));
      CHECK_OK(read_raw(files, weight_, (row + r) * columns_, std::span(q)));
      constexpr float kStep = 7.874015718698502e-3f;  // 1 / 127
      for (size_t i = 0; i < q.size(); ++i) numbers[i] = static_cast<float>(q[i]) * scale * kStep;
      codec()->encode(numbers.data(), to.data() + r * codec()->bytes(columns_), columns_);
    }
    return {};
  }

 private:
  int64_t columns_;
  PackedPart weight_, scales_;
};

// The JSON that is stored as bytes.
Result<Json> read_state(const PackedSource& source, const PackedPart& part) {
  if (part.entry.dtype != "U8" || part.entry.bytes > kLargestState)
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be at most {} bytes, found {} of dtype {}", source.name,
                part.entry.name, kLargestState, part.entry.bytes, part.entry.dtype);
  std::string text(part.entry.bytes, '\0');
  CHECK_OK(read_raw(source.files, part, 0, std::span(text)));
  return parse_json(text, source.name);
}

Result<int64_t> block_size(const JsonFields& state, std::string_view key) {
  const int64_t size = TRY(state.get<int64_t>(key));
  if (size > 0 && size <= kLargestBlock) return size;
  return fail(ErrorCode::corrupt, "reading {}: '{}' is {}; expected 1..{}", state.source(), key, size, kLargestBlock);
}

Result<Scales> open_scales(const PackedSource& source, const JsonFields& state, int64_t blocks) {
  Scales scales;
  const PackedPart* const nested = source.find(".weight.nested_absmax");
  scales.absmax = TRY(packed_part(source, ".weight.absmax", {blocks}, {nested ? "U8" : "F32"}));
  if (!nested) return scales;
  scales.nested_block = TRY(block_size(state, "nested_blocksize"));
  scales.offset = static_cast<float>(TRY(state.get<double>("nested_offset")));
  CHECK_OK(check_part(source, *nested, {(blocks + scales.nested_block - 1) / scales.nested_block}, {"F32"}));
  scales.nested = *nested;
  const PackedPart map = TRY(packed_part(source, ".weight.nested_quant_map", {256}, {"F32"}));
  CHECK_OK(read_numbers(source.files, map, 0, scales.map));
  return scales;
}

bool has_levels_of_nf4(std::span<const float> levels) {
  std::array<std::byte, 36> block{};
  std::array<float, 64> ours;
  const float one = 1;
  std::memcpy(block.data(), &one, sizeof one);
  for (size_t i = 0; i < 8; ++i) block[4 + i] = static_cast<std::byte>(2 * i << 4 | (2 * i + 1));
  kNf4.decode(block.data(), ours.data(), 64);
  return std::equal(levels.begin(), levels.end(), ours.begin());
}

// Whether the values of nested scales are those that our codec has.
bool has_map_of_int8_block(std::span<const float> map) {
  std::array<std::byte, 4 + 256> block{};
  std::array<float, 256> ours;
  const float one = 1;
  std::memcpy(block.data(), &one, sizeof one);
  for (size_t i = 0; i < 256; ++i) block[4 + i] = static_cast<std::byte>(i);
  kInt8Block.decode(block.data(), ours.data(), 256);
  return std::equal(map.begin(), map.end(), ours.begin());
}

// Which of our codecs has the same bits; nullptr: none.
const Codec* same_bits(const Scales& scales, std::span<const float> levels, int64_t block, int64_t columns) {
  if (block != kNf4.block || columns % block != 0 || !has_levels_of_nf4(levels)) return nullptr;
  if (!scales.nested) return &kNf4;
  // No block of ours may lie across two groups of scales, and operations on whole matrices want rows of whole blocks.
  const bool within = scales.nested_block * block % kNf4Double.block == 0 && columns % kNf4Double.block == 0;
  return within && has_map_of_int8_block(scales.map) ? &kNf4Double : &kNf4;
}

Result<const Codec*> codec_of_state(const JsonFields& state) {
  const std::string name = TRY(state.get<std::string>("dtype"));
  if (name == "float32") return &kF32;
  if (name == "bfloat16") return &kBf16;
  if (name == "float16") return &kF16;
  return fail(ErrorCode::unsupported, "reading {}: 'dtype' is '{}'; expected float32, bfloat16 or float16",
              state.source(), name);
}

Result<std::shared_ptr<const PackedRows>> open_four_bit(const PackedSource& source, const PackedPart& state_part) {
  const Json json = TRY(read_state(source, state_part));
  const JsonFields state = TRY(JsonFields::of(json, source.name));
  const int64_t count = source.rows * source.columns, block = TRY(block_size(state, "blocksize"));
  if (state.find("shape") == nullptr || *state.find("shape") != Json{source.rows, source.columns})
    return fail(ErrorCode::corrupt, "reading {}: the state has shape {}, config.json says [{}, {}]", source.name,
                state.find("shape") ? state.find("shape")->dump() : "none", source.rows, source.columns);
  const PackedPart weight = TRY(packed_part(source, ".weight", {(count + 1) / 2, 1}, {"U8"}));
  const PackedPart map = TRY(packed_part(source, ".weight.quant_map", {16}, {"F32"}));
  std::array<float, 16> levels;
  CHECK_OK(read_numbers(source.files, map, 0, levels));
  Scales scales = TRY(open_scales(source, state, (count + block - 1) / block));
  const Codec* codec = TRY(codec_of_state(state));
  if (codec == &kF32)
    if (const Codec* const same = same_bits(scales, levels, block, source.columns)) codec = same;
  return std::make_shared<FourBitRows>(codec, source.columns, weight, levels, block, std::move(scales));
}

Result<void> check(const JsonFields& config) {
  const std::string_view key = "bnb_4bit_quant_storage";
  const std::string storage = TRY(config.get_or<std::string>(key, "uint8"));
  if (storage == "uint8") return {};
  return fail(ErrorCode::unsupported, "reading {}: '{}' is '{}'; thimble reads uint8", config.source(), key, storage);
}

Result<std::shared_ptr<const PackedRows>> open(const Quantisation& quantisation, const PackedSource& source) {
  for (const char* state : {".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4"})
    if (const PackedPart* const part = source.find(state)) return open_four_bit(source, *part);
  const PackedPart* const scales = source.find(".SCB");
  if (!scales) return nullptr;
  source.find(".weight_format");  // of the rows' order on a GPU; a file has them row by row
  CHECK_OK(check_part(source, *scales, {source.rows}, {"F32"}));
  const PackedPart weight = TRY(packed_part(source, ".weight", {source.rows, source.columns}, {"I8"}));
  const Codec* const codec = quantisation.dtype ? quantisation.dtype : &kF16;
  return std::make_shared<EightBitRows>(codec, source.columns, weight, *scales);
}

}  // namespace

const QuantMethod kQuantBitsandbytes = {.name = "bitsandbytes",
                                        .description = "nf4 and fp4 with double quantisation, and 8-bit rows",
                                        .check = check,
                                        .open = open};

}  // namespace thimble
