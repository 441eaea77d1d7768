#include "models/stored_model.h"

#include <algorithm>
#include <cstring>

namespace thimble {

namespace {

// thimble's row of a head to the row that the file has at its place.
int64_t interleaved_row(int64_t row, int64_t head_dim) {
  const int64_t within = row % head_dim, half = head_dim / 2;
  return row - within + (within < half ? 2 * within : 2 * (within - half) + 1);
}

int64_t file_row(const StoredTensor& stored, int64_t row) {
  if (stored.pairs_of > 0) row = interleaved_row(row, stored.pairs_of);
  return stored.run == 0 ? row : row / stored.run * stored.period + stored.first + row % stored.run;
}

// `count` rows of ours, or elements of a vector, from `first` on; those that follow one another in the file at once.
Result<void> read_rows(std::span<const InputFile> files, const StoredTensor& stored, int64_t first, int64_t count,
                       int64_t row_bytes, std::span<std::byte> to) {
  for (int64_t done = 0; done < count;) {
    const int64_t from = file_row(stored, first + done);
    int64_t together = 1;
    while (done + together < count && file_row(stored, first + done + together) == from + together) ++together;
    const auto part = to.subspan(static_cast<size_t>(done * row_bytes), static_cast<size_t>(together * row_bytes));
    if (stored.packed)
      CHECK_OK(stored.packed->read(files, from, together, part));
    else
      CHECK_OK(files[stored.file].read(stored.offset + static_cast<uint64_t>(from * row_bytes), part));
    done += together;
  }
  return {};
}

}  // namespace

Result<void> read_stored(const StoredModel& model, size_t index, int64_t row, int64_t rows, std::span<std::byte> to) {
  const ModelTensor& tensor = model.tensors[index];
  const StoredTensor& stored = model.stored[index];
  const InputFile& file = model.files[stored.file];
  const int64_t columns = tensor.shape.columns(), row_bytes = tensor.codec->bytes(columns);
  if (tensor.shape.rank() == 1) {
    CHECK_OK(read_rows(model.files, stored, 0, columns, tensor.codec->bytes(1), to));
    float* const numbers = reinterpret_cast<float*>(to.data());
    for (int64_t i = 0; stored.shift != 0 && i < columns; ++i) numbers[i] += stored.shift;
    return {};
  }
  if (stored.transposed_stride == 0) return read_rows(model.files, stored, row, rows, row_bytes, to);
  // One row of the file holds element `column` of all our rows.
  const int64_t element = tensor.codec->block_bytes;
  constexpr int64_t kPiece = 4096;
  std::byte piece[kPiece];
  for (int64_t column = 0; column < columns; ++column) {
    for (int64_t done = 0; done < rows;) {
      const int64_t count = std::min(rows - done, kPiece / element);
      CHECK_OK(file.read(stored.offset + static_cast<uint64_t>(column * stored.transposed_stride +
                                                               (stored.first + row + done) * element),
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
