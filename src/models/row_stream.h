// Rows of a model on their way into another file: converted to another codec, and in that file's order, in pieces that
// take a megabyte with what they are made of.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/model_source.h"

namespace thimble {

// Gives rows of a tensor in its codec, as ModelSource::read does.
using ReadRows =
    std::function<Result<void>(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to)>;
using WriteBytes = std::function<Result<void>(std::span<const std::byte>)>;

// `source` must outlive the result.
ReadRows rows_of(const ModelSource& source);

// How rows of a head of q and k change places (RopeLayout).
enum class RowOrder { same, halves_to_interleaved, interleaved_to_halves };

// What the writer of a file asks of one tensor.
struct RowStream {
  const ModelTensor& tensor;
  const Codec& codec;  // to write
  RowOrder order = RowOrder::same;
  int64_t head_dim = 0;  // where the order changes
  // Rows [first, first + count) of the file's order; of a vector, elements. -1: all.
  int64_t first = 0, count = -1;
  float shift = 0;  // added to the numbers of a vector
};

// The rows of the tensor that are asked for, in order.
Result<void> stream_rows(const RowStream& stream, const ReadRows& read, const WriteBytes& write);

// The same of several tensors side by side and transposed: row i of the file is column i of every tensor, one after
// another. For codecs without blocks. Rows are read again for every panel of columns that fits four megabytes.
Result<void> stream_transposed(std::span<const ModelTensor* const> tensors, const Codec& codec, const ReadRows& read,
                               const WriteBytes& write);

// Most memory that the two take for the tensors of a model.
int64_t stream_bytes(const Architecture& architecture, bool transposed);

// The tensors in the order of tensor_specs(); an error names one that is missing, unknown or of another shape.
Result<std::vector<const ModelTensor*>> tensors_in_order(const Architecture& architecture,
                                                         std::span<const ModelTensor> tensors);

}  // namespace thimble
