#include "models/row_stream.h"

#include <algorithm>
#include <cstring>

#include "models/damage.h"

namespace thimble {
namespace {

constexpr int64_t kPieceBytes = 1 << 20;
constexpr int64_t kPanelBytes = 4 << 20;

// Reads rows and converts them; holds its buffers from call to call.
class Converter {
 public:
  Converter(const Codec& to, const ReadRows& read) : to_(to), read_(read) {}

  int64_t row_bytes(const ModelTensor& tensor) const { return to_.bytes(tensor.shape.columns()); }
  // Rows at once: they fill a piece with what they are read into.
  int64_t rows_at_once(const ModelTensor& tensor) const {
    const int64_t bytes = row_bytes(tensor) + (tensor.codec == &to_ ? 0 : tensor.codec->bytes(tensor.shape.columns()));
    return std::clamp<int64_t>(kPieceBytes / std::max<int64_t>(1, bytes), 1, std::max<int64_t>(1, tensor.shape.rows()));
  }

  // Every row is looked at as numbers, also where it is copied: damage is found here, not by whoever reads the result.
  Result<void> rows(const ModelTensor& tensor, int64_t row, int64_t count, std::byte* out) {
    const int64_t columns = tensor.shape.columns();
    const int64_t from_bytes = tensor.codec->bytes(columns), to_bytes = to_.bytes(columns);
    const bool copies = tensor.codec == &to_;
    numbers_.resize(static_cast<size_t>(columns));
    if (copies) {
      CHECK_OK(read_(tensor, row, count, std::span(out, static_cast<size_t>(count * to_bytes))));
    } else {
      again_.resize(numbers_.size());
      stored_.resize(static_cast<size_t>(count * from_bytes));
      CHECK_OK(read_(tensor, row, count, stored_));
    }
    const std::byte* const from = copies ? out : stored_.data();
    for (int64_t i = 0; i < count; ++i) {
      tensor.codec->decode(from + i * from_bytes, numbers_.data(), columns);
      CHECK_OK(check_finite(tensor, row + i, numbers_));
      if (copies) continue;
      to_.encode(numbers_.data(), out + i * to_bytes, columns);
      CHECK_OK(check_fits(tensor, row + i, numbers_, to_, out + i * to_bytes, again_));
    }
    return {};
  }

 private:
  const Codec& to_;
  const ReadRows& read_;
  std::vector<std::byte> stored_;
  std::vector<float> numbers_, again_;  // of a row: as read, and as written
};

// The row of the source that belongs at `row` of the file.
int64_t source_row(int64_t row, RowOrder order, int64_t head_dim) {
  if (order == RowOrder::same) return row;
  const int64_t within = row % head_dim, half = head_dim / 2, head = row - within;
  if (order == RowOrder::halves_to_interleaved) return head + within / 2 + within % 2 * half;
  return head + (within < half ? 2 * within : 2 * (within - half) + 1);
}

// A bias of q or k: its elements move as the rows of the matrix do.
Result<void> stream_vector(const RowStream& stream, Converter& converter, const WriteBytes& write) {
  const int64_t count = stream.tensor.shape.columns(), element = stream.codec.block_bytes;
  std::vector<std::byte> bytes(static_cast<size_t>(stream.codec.bytes(count)));
  CHECK_OK(converter.rows(stream.tensor, 0, 1, bytes.data()));
  if (stream.shift != 0) {
    std::vector<float> numbers(static_cast<size_t>(count));
    stream.codec.decode(bytes.data(), numbers.data(), count);
    for (float& number : numbers) number += stream.shift;
    stream.codec.encode(numbers.data(), bytes.data(), count);
  }
  if (stream.order == RowOrder::same && stream.count < 0) return write(bytes);
  if (stream.codec.block != 1) {
    return fail(ErrorCode::unsupported, "writing vector '{}': its elements cannot be put in order in codec {}",
                stream.tensor.name, stream.codec.name);
  }
  const int64_t wanted = stream.count < 0 ? count : stream.count;
  std::vector<std::byte> ordered(static_cast<size_t>(wanted * element));
  for (int64_t i = 0; i < wanted; ++i) {
    const int64_t from = source_row(stream.first + i, stream.order, stream.head_dim);
    std::memcpy(ordered.data() + i * element, bytes.data() + from * element, static_cast<size_t>(element));
  }
  return write(ordered);
}

}  // namespace

ReadRows rows_of(const ModelSource& source) {
  return [&source](const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) {
    return source.read(tensor, row, rows, to);
  };
}

Result<void> stream_rows(const RowStream& stream, const ReadRows& read, const WriteBytes& write) {
  Converter converter(stream.codec, read);
  if (stream.tensor.shape.rank() == 1) return stream_vector(stream, converter, write);
  const int64_t end = stream.count < 0 ? stream.tensor.shape.rows() : stream.first + stream.count,
                row_bytes = converter.row_bytes(stream.tensor);
  const int64_t step = converter.rows_at_once(stream.tensor);
  std::vector<std::byte> piece(static_cast<size_t>(step * row_bytes));
  for (int64_t row = stream.first; row < end; row += step) {
    const int64_t count = std::min(step, end - row);
    if (stream.order == RowOrder::same) {
      CHECK_OK(converter.rows(stream.tensor, row, count, piece.data()));
    } else {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t from = source_row(row + i, stream.order, stream.head_dim);
        CHECK_OK(converter.rows(stream.tensor, from, 1, piece.data() + i * row_bytes));
      }
    }
    CHECK_OK(write(std::span(piece).first(static_cast<size_t>(count * row_bytes))));
  }
  return {};
}

Result<void> stream_transposed(std::span<const ModelTensor* const> tensors, const Codec& codec, const ReadRows& read,
                               const WriteBytes& write) {
  Converter converter(codec, read);
  const int64_t element = codec.block_bytes, columns = tensors.front()->shape.columns();
  int64_t all_rows = 0;
  for (const ModelTensor* tensor : tensors) all_rows += tensor->shape.rows();
  const int64_t panel_columns = std::clamp<int64_t>(kPanelBytes / (all_rows * element), 1, columns);
  std::vector<std::byte> panel(static_cast<size_t>(panel_columns * all_rows * element));
  std::vector<std::byte> row_bytes(static_cast<size_t>(columns * element));
  for (int64_t first = 0; first < columns; first += panel_columns) {
    const int64_t width = std::min(panel_columns, columns - first);
    int64_t at = 0;  // column of the panel
    for (const ModelTensor* tensor : tensors) {
      for (int64_t row = 0; row < tensor->shape.rows(); ++row, ++at) {
        CHECK_OK(converter.rows(*tensor, row, 1, row_bytes.data()));
        for (int64_t i = 0; i < width; ++i) {
          std::memcpy(panel.data() + (i * all_rows + at) * element, row_bytes.data() + (first + i) * element,
                      static_cast<size_t>(element));
        }
      }
    }
    CHECK_OK(write(std::span(panel).first(static_cast<size_t>(width * all_rows * element))));
  }
  return {};
}

int64_t stream_bytes(const Architecture& architecture, bool transposed) {
  constexpr int64_t kRows = 5;  // as read, as numbers, as written, as numbers again, and in another order
  int64_t columns = 0;
  for (const TensorSpec& tensor : tensor_specs(architecture)) columns = std::max(columns, tensor.shape.columns());
  const int64_t most = static_cast<int64_t>(sizeof(float)) * columns;
  return std::max(kPieceBytes, 2 * most) + kRows * most + (transposed ? std::max(kPanelBytes, most) : 0);
}

Result<std::vector<const ModelTensor*>> tensors_in_order(const Architecture& architecture,
                                                         std::span<const ModelTensor> tensors) {
  std::map<std::string_view, const ModelTensor*> by_name;
  for (const ModelTensor& tensor : tensors) by_name[tensor.name] = &tensor;
  std::vector<const ModelTensor*> ordered;
  for (const TensorSpec& spec : tensor_specs(architecture)) {
    const auto found = by_name.find(spec.name);
    if (found == by_name.end()) {
      return fail(ErrorCode::invalid_argument, "writing a model: tensor '{}' is missing", spec.name);
    }
    if (found->second->shape != spec.shape) {
      return fail(ErrorCode::shape, "writing a model: tensor '{}' should have shape {}, found {}", spec.name,
                  spec.shape.text(), found->second->shape.text());
    }
    ordered.push_back(found->second);
  }
  if (ordered.size() != tensors.size()) {
    return fail(ErrorCode::invalid_argument, "writing a model: {} tensors were given, the architecture has {}",
                tensors.size(), ordered.size());
  }
  return ordered;
}

}  // namespace thimble
