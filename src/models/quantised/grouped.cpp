// GPTQ and AWQ: whole numbers of 2, 4 or 8 bits, with a scale and a zero point for each group of inputs.
//
//   Source  Frantar et al. 2022, arXiv:2210.17323, and Lin et al. 2023, arXiv:2306.00978; layouts as in GPTQModel's
//           dequantize_weight (nn_modules/qlinear) and AutoAWQ's dequantize_gemm (utils/packing_utils)
//   Tensors qweight: i32, whose 32 / bits fields from the lowest are neighbours along the inputs: [in / fields, out]
//           (GPTQ), or along the outputs: [in, out / fields] (AWQ's "gemm")
//           qzeros: i32 [groups, out / fields], scales: [groups, out]; g_idx: i32 [in], the group of an input (GPTQ
//           with act-order; absent: in / group_size)
//   Value   w[out][in] = scale (q - zero), rounded once to the type of the scales, as their tools do
//   Choice  GPTQ's first version stores zero - 1; 1 is added after unpacking, so that 15 becomes 16 as in AutoGPTQ
#include <algorithm>
#include <cassert>

#include "models/quantised/parts.h"

namespace thimble {
namespace {

constexpr int64_t kMostGroupNumbers = 64 << 10;  // scales and zeros held at once: 512 KiB
constexpr int64_t kMostRows = 1024;              // decoded at once

struct Layout {
  int bits = 4;
  bool along_input = true;     // the fields of a word of qweight
  const int* order = nullptr;  // of the outputs of a word: output k is in field order[k]; nullptr: in field k
  int zero_offset = 0;         // added to stored zeros
  int64_t group_size = 0;      // inputs of a group
  int fields() const { return 32 / bits; }
  int field(uint32_t word, int64_t k) const {
    const int place = order ? order[k] : static_cast<int>(k);
    return static_cast<int>(word >> (place * bits)) & ((1 << bits) - 1);
  }
};

struct Tensors {
  PackedPart qweight, qzeros, scales;
  std::optional<PackedPart> g_idx;
};

class GroupedRows : public PackedRows {
 public:
  GroupedRows(const PackedSource& source, const Layout& layout, Tensors tensors)
      : PackedRows(tensors.scales.entry.codec),
        name_(source.name),
        out_(source.rows),
        in_(source.columns),
        layout_(layout),
        tensors_(std::move(tensors)),
        groups_(tensors_.scales.entry.shape[0]) {}

  Result<void> read(std::span<const InputFile> files, int64_t row, int64_t rows,
                    std::span<std::byte> to) const override {
    const int64_t most = std::clamp<int64_t>(kMostGroupNumbers / groups_, 1, kMostRows);
    const std::vector<int32_t> group_of = TRY(groups(files));
    for (int64_t done = 0; done < rows; done += most) {
      const int64_t count = std::min(most, rows - done);
      const int64_t row_bytes = in_ * codec()->block_bytes;
      CHECK_OK(read_piece(files, row + done, count, group_of,
                          to.subspan(static_cast<size_t>(done * row_bytes), static_cast<size_t>(count * row_bytes))));
    }
    return {};
  }

 private:
  // The group of each input.
  Result<std::vector<int32_t>> groups(std::span<const InputFile> files) const {
    std::vector<int32_t> of(static_cast<size_t>(in_));
    if (tensors_.g_idx) {
      CHECK_OK(read_raw(files, *tensors_.g_idx, 0, std::span(of)));
    } else {
      for (int64_t i = 0; i < in_; ++i) of[static_cast<size_t>(i)] = static_cast<int32_t>(i / layout_.group_size);
    }
    for (const int32_t group : of)
      if (group < 0 || group >= groups_)
        return fail(ErrorCode::corrupt, "reading {}: g_idx names group {} of {}", name_, group, groups_);
    return of;
  }

  // `count` fields from `first` on of a row of words along the outputs, of a tensor [.., out / fields].
  Result<void> read_fields(std::span<const InputFile> files, const PackedPart& part, int64_t line, int64_t first,
                           std::span<int> to) const {
    const int64_t fields = layout_.fields(), from = first / fields,
                  end = (first + static_cast<int64_t>(to.size()) - 1) / fields + 1;
    std::vector<uint32_t> words(static_cast<size_t>(end - from));
    CHECK_OK(read_raw(files, part, line * (out_ / fields) + from, std::span(words)));
    for (size_t i = 0; i < to.size(); ++i) {
      const int64_t at = first + static_cast<int64_t>(i);
      to[i] = layout_.field(words[static_cast<size_t>(at / fields - from)], at % fields);
    }
    return {};
  }

  // The numbers of the inputs [first, first + width) of outputs [row, row + count): q[input][output].
  Result<void> read_inputs(std::span<const InputFile> files, int64_t first, int64_t width, int64_t row, int64_t count,
                           std::span<int> q) const {
    const auto line = [&](int64_t i) { return q.subspan(static_cast<size_t>(i * count), static_cast<size_t>(count)); };
    if (!layout_.along_input) {
      for (int64_t i = 0; i < width; ++i) CHECK_OK(read_fields(files, tensors_.qweight, first + i, row, line(i)));
      return {};
    }
    std::vector<uint32_t> words(static_cast<size_t>(count));
    CHECK_OK(read_raw(files, tensors_.qweight, first / layout_.fields() * out_ + row, std::span(words)));
    for (int64_t i = 0; i < width; ++i) {
      const std::span<int> to = line(i);
      for (size_t r = 0; r < to.size(); ++r) to[r] = layout_.field(words[r], i);
    }
    return {};
  }

  Result<void> read_piece(std::span<const InputFile> files, int64_t row, int64_t count,
                          std::span<const int32_t> group_of, std::span<std::byte> to) const {
    const size_t n = static_cast<size_t>(count);
    std::vector<float> scales(static_cast<size_t>(groups_) * n);
    std::vector<int> zeros(scales.size());
    for (size_t g = 0; g < static_cast<size_t>(groups_); ++g) {
      const int64_t at = static_cast<int64_t>(g);
      CHECK_OK(read_numbers(files, tensors_.scales, at * out_ + row, std::span(scales).subspan(g * n, n)));
      CHECK_OK(read_fields(files, tensors_.qzeros, at, row, std::span(zeros).subspan(g * n, n)));
    }
    const int64_t tile = layout_.fields(), element = codec()->block_bytes;
    std::vector<int> q(static_cast<size_t>(tile) * n);
    std::vector<float> numbers(static_cast<size_t>(tile));
    for (int64_t first = 0; first < in_; first += tile) {
      const int64_t width = std::min(tile, in_ - first);
      CHECK_OK(read_inputs(files, first, width, row, count, q));
      for (size_t r = 0; r < n; ++r) {
        for (int64_t i = 0; i < width; ++i) {
          const size_t at = static_cast<size_t>(group_of[static_cast<size_t>(first + i)]) * n + r;
          const int steps = q[static_cast<size_t>(i) * n + r] - (zeros[at] + layout_.zero_offset);
          numbers[static_cast<size_t>(i)] = scales[at] * static_cast<float>(steps);
        }
        codec()->encode(numbers.data(), to.data() + (static_cast<int64_t>(r) * in_ + first) * element, width);
      }
    }
    return {};
  }

  std::string name_;
  int64_t out_, in_;
  Layout layout_;
  Tensors tensors_;
  int64_t groups_;
};

// The tensors of a matrix whose parts fit together.
Result<std::shared_ptr<const PackedRows>> open_grouped(const PackedSource& source, Layout layout, bool act_order) {
  const PackedPart* const qweight = source.find(".qweight");
  if (!qweight) return nullptr;
  const int64_t fields = layout.fields(), out = source.rows, in = source.columns;
  if (layout.group_size == -1) layout.group_size = in;
  if (out % fields != 0 || (layout.along_input && in % fields != 0))
    return fail(ErrorCode::unsupported, "reading {}: a matrix of shape [{}, {}] does not fit words of {} numbers",
                source.name, out, in, fields);
  const int64_t groups = (in + layout.group_size - 1) / layout.group_size;
  const Shape packed = layout.along_input ? Shape{in / fields, out} : Shape{in, out / fields};
  CHECK_OK(check_part(source, *qweight, packed, {"I32", "U32"}));
  Tensors tensors{.qweight = *qweight};
  tensors.qzeros = TRY(packed_part(source, ".qzeros", {groups, out / fields}, {"I32", "U32"}));
  tensors.scales = TRY(packed_part(source, ".scales", {groups, out}, {"F16", "BF16", "F32"}));
  if (const PackedPart* const g_idx = source.find(".g_idx"); g_idx && act_order) {
    CHECK_OK(check_part(source, *g_idx, {in}, {"I32"}));
    tensors.g_idx = *g_idx;
  }
  return std::make_shared<GroupedRows>(source, layout, std::move(tensors));
}

Result<int64_t> group_size_of(const JsonFields& config, std::string_view key) {
  const int64_t size = TRY(config.get_or<int64_t>(key, 128));
  constexpr int64_t kMost = 1 << 30;
  if (size == -1 || (size > 0 && size <= kMost)) return size;
  return fail(ErrorCode::corrupt, "reading {}: '{}' is {}; expected -1 or 1 to {}", config.source(), key, size, kMost);
}

Result<std::string> gptq_format(const JsonFields& config) {
  const std::string_view key = config.has("checkpoint_format") ? "checkpoint_format" : "format";
  return config.get_or<std::string>(key, "gptq");
}

Result<void> check_gptq(const JsonFields& config) {
  const int64_t bits = TRY(config.get<int64_t>("bits"));
  if (bits != 2 && bits != 4 && bits != 8)
    return fail(ErrorCode::unsupported, "reading {}: 'bits' of GPTQ is {}; thimble reads 2, 4 and 8", config.source(),
                bits);
  const std::string format = TRY(gptq_format(config));
  if (format != "gptq" && format != "gptq_v2")
    return fail(ErrorCode::unsupported, "reading {}: GPTQ's format is '{}'; thimble reads gptq and gptq_v2",
                config.source(), format);
  TRY(group_size_of(config, "group_size"));
  return {};
}

Result<std::shared_ptr<const PackedRows>> open_gptq(const Quantisation& quantisation, const PackedSource& source) {
  const JsonFields config = TRY(JsonFields::of(*quantisation.config, quantisation.source));
  Layout layout{.bits = static_cast<int>(TRY(config.get<int64_t>("bits")))};
  layout.zero_offset = TRY(gptq_format(config)) == "gptq" ? 1 : 0;
  layout.group_size = TRY(group_size_of(config, "group_size"));
  return open_grouped(source, layout, true);
}

// The outputs of a word of AWQ, from its lowest field: 0, 2, 4, 6, 1, 3, 5, 7.
constexpr int kAwqOrder[] = {0, 4, 1, 5, 2, 6, 3, 7};

std::string_view awq_key(const JsonFields& config, std::string_view key, std::string_view older) {
  return config.has(key) ? key : older;
}

Result<void> check_awq(const JsonFields& config) {
  const int64_t bits = TRY(config.get_or<int64_t>(awq_key(config, "bits", "w_bit"), 4));
  std::string version = TRY(config.get_or<std::string>("version", "gemm"));
  std::ranges::transform(version, version.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  if (bits != 4 || version != "gemm")
    return fail(ErrorCode::unsupported, "reading {}: AWQ has {} bits in version '{}'; thimble reads 4 bits in gemm",
                config.source(), bits, version);
  TRY(group_size_of(config, awq_key(config, "group_size", "q_group_size")));
  return {};
}

Result<std::shared_ptr<const PackedRows>> open_awq(const Quantisation& quantisation, const PackedSource& source) {
  const JsonFields config = TRY(JsonFields::of(*quantisation.config, quantisation.source));
  Layout layout{.along_input = false, .order = kAwqOrder};
  layout.group_size = TRY(group_size_of(config, awq_key(config, "group_size", "q_group_size")));
  return open_grouped(source, layout, false);
}

}  // namespace

const QuantMethod kQuantGptq = {.name = "gptq",
                                .description = "whole numbers with a scale and a zero point a group, by columns",
                                .check = check_gptq,
                                .open = open_gptq};
const QuantMethod kQuantAwq = {.name = "awq",
                               .description = "4-bit numbers with a scale and a zero point a group, gemm's order",
                               .check = check_awq,
                               .open = open_awq};

}  // namespace thimble
