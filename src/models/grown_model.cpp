#include "models/grown_model.h"

#include <algorithm>
#include <array>
#include <map>

namespace thimble {
namespace {

constexpr int64_t kPieceBytes = 256 << 10;
constexpr std::array<std::string_view, 3> kRowsOfTokens = {"model.embed_tokens.weight", "lm_head.weight",
                                                           "lm_head.bias"};

// The mean over the rows of a matrix, or over the elements of a vector.
Result<std::vector<float>> mean_row(const ModelSource& source, const ModelTensor& tensor) {
  const bool vector = tensor.shape.rank() == 1;
  const int64_t columns = tensor.shape.columns(), rows = tensor.shape.rows(), row_bytes = tensor.codec->bytes(columns);
  const int64_t step = std::clamp<int64_t>(kPieceBytes / row_bytes, 1, rows);
  std::vector<double> sums(static_cast<size_t>(vector ? 1 : columns));
  std::vector<std::byte> bytes;
  std::vector<float> numbers(static_cast<size_t>(columns));
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    bytes.resize(static_cast<size_t>(count * row_bytes));
    CHECK_OK(source.read(tensor, row, count, bytes));
    for (int64_t r = 0; r < count; ++r) {
      tensor.codec->decode(bytes.data() + r * row_bytes, numbers.data(), columns);
      for (size_t i = 0; i < numbers.size(); ++i) sums[vector ? 0 : i] += numbers[i];
    }
  }
  std::vector<float> mean;
  for (const double sum : sums) mean.push_back(static_cast<float>(sum / static_cast<double>(vector ? columns : rows)));
  return mean;
}

class GrownModel : public ModelSource {
 public:
  explicit GrownModel(std::unique_ptr<ModelSource> source) : source_(std::move(source)) {
    path_ = source_->path();
    architecture_ = source_->architecture();
  }

  Result<void> grow(int64_t vocab) {
    architecture_.vocab = vocab;
    std::vector<ModelTensor> tensors(source_->tensors().begin(), source_->tensors().end());
    for (ModelTensor& tensor : tensors) {
      if (std::ranges::find(kRowsOfTokens, tensor.name) == kRowsOfTokens.end()) continue;
      if (!tensor.codec->writes())
        return fail(ErrorCode::unsupported,
                    "reading {}: rows for new tokens of '{}' cannot be made in {}, which thimble only reads; convert "
                    "the model with --codec q8_0 first",
                    path_, tensor.name, tensor.codec->name);
      const std::vector<float> mean = TRY(mean_row(*source_, tensor));
      std::vector<std::byte>& row = new_rows_[tensor.name];
      row.resize(static_cast<size_t>(tensor.codec->bytes(static_cast<int64_t>(mean.size()))));
      tensor.codec->encode(mean.data(), row.data(), static_cast<int64_t>(mean.size()));
      tensor.shape = tensor.shape.with_first(vocab);
    }
    set_tensors(std::move(tensors));
    return {};
  }

  Result<void> read(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) const override {
    const auto grown = new_rows_.find(tensor.name);
    const ModelTensor* const old = source_->find(tensor.name);
    if (grown == new_rows_.end() || !old) return source_->read(tensor, row, rows, to);
    // The elements of a vector are to a file what rows are of a matrix, but all of them are read.
    const bool vector = tensor.shape.rank() == 1;
    const int64_t there = vector ? old->shape.columns() : old->shape.rows(), first = vector ? 0 : row,
                  count = vector ? tensor.shape.columns() : rows;
    const int64_t old_rows = std::clamp<int64_t>(there - first, 0, count);
    const auto bytes = static_cast<size_t>(grown->second.size());
    if (to.size() != static_cast<size_t>(count) * bytes)
      return fail(ErrorCode::invalid_argument, "reading {}: {} rows of tensor '{}' take {} bytes, room is for {}",
                  path_, count, tensor.name, static_cast<size_t>(count) * bytes, to.size());
    if (old_rows > 0)
      CHECK_OK(source_->read(*old, first, vector ? 1 : old_rows, to.first(static_cast<size_t>(old_rows) * bytes)));
    for (int64_t r = old_rows; r < count; ++r)
      std::ranges::copy(grown->second, to.data() + static_cast<size_t>(r) * bytes);
    return {};
  }

 private:
  std::unique_ptr<ModelSource> source_;
  std::map<std::string, std::vector<std::byte>, std::less<>> new_rows_;  // one, in the tensor's codec
};

}  // namespace

Result<std::unique_ptr<ModelSource>> with_rows(std::unique_ptr<ModelSource> source, int64_t vocab) {
  auto grown = std::make_unique<GrownModel>(std::move(source));
  CHECK_OK(grown->grow(vocab));
  return grown;
}

}  // namespace thimble
