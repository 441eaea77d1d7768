#include "models/stored_model.h"

#include <algorithm>
#include <cstring>

namespace thimble {

// thimble's row of a head to the row that the file has at its place.
static int64_t interleaved_row(int64_t row, int64_t head_dim) {
  const int64_t within = row % head_dim, half = head_dim / 2;
  return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

Result<void> read_stored(const StoredModel& model, size_t index, int64_t row, int64_t rows, std::span<std::byte> to) {
  const ModelTensor& tensor = model.tensors[index];
  const StoredTensor& stored = model.stored[index];
  const InputFile& file = model.files[stored.file];
  const bool vector = tensor.shape.rank() == 1;
  // An interleaved vector (the bias of q) is permuted by element.
  const bool by_element = vector && stored.layout == StoredTensor::Layout::interleaved;
  const int64_t row_bytes = tensor.codec->bytes(by_element ? 1 : tensor.shape.columns());
  switch (stored.layout) {
    case StoredTensor::Layout::as_is:
      return file.read(stored.offset + static_cast<uint64_t>(row * row_bytes), to);
    case StoredTensor::Layout::interleaved: {
      const int64_t count = by_element ? tensor.shape.columns() : rows;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t from = interleaved_row(row + i, stored.head_dim);
        CHECK_OK(file.read(stored.offset + static_cast<uint64_t>(from * row_bytes),
                           to.subspan(static_cast<size_t>(i * row_bytes), static_cast<size_t>(row_bytes))));
      }
      return {};
    }
    case StoredTensor::Layout::transposed:
      break;
  }
  // One row of the file holds element `column` of all our rows.
  const int64_t element = tensor.codec->block_bytes;
  constexpr int64_t kPiece = 4096;
  std::byte piece[kPiece];
  for (int64_t column = 0; column < tensor.shape.columns(); ++column) {
    for (int64_t done = 0; done < rows;) {
      const int64_t count = std::min(rows - done, kPiece / element);
      CHECK_OK(file.read(stored.offset + static_cast<uint64_t>(column * stored.stride + (row + done) * element),
                         std::span(piece, static_cast<size_t>(count * element))));
      for (int64_t i = 0; i < count; ++i) {
        std::memcpy(to.data() + (done + i) * row_bytes + column * element, piece + i * element, element);
      }
      done += count;
    }
  }
  return {};
}

}  // namespace thimble
