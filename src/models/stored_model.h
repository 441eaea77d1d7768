// What a format's reader hands over: where every tensor of the model is in which file, and how its rows there differ
// from thimble's. One reader of rows (stored_model.cpp) then serves all formats.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "files/file.h"
#include "models/model_source.h"

namespace thimble {

struct StoredTensor {
  enum class Layout {
    as_is,        // rows in thimble's order, one after another
    interleaved,  // rows 2i and 2i+1 of a head are thimble's rows i and i + head_dim/2 (llama.cpp's order of q and k)
    transposed,   // [in, out] in the file (GPT-2)
  };
  size_t file = 0;      // index into StoredModel::files
  uint64_t offset = 0;  // of the tensor's first byte
  Layout layout = Layout::as_is;
  int64_t head_dim = 0;  // interleaved
  int64_t stride = 0;    // transposed: bytes from one row of the file to the next
};

struct StoredModel {
  Architecture architecture;
  std::vector<InputFile> files;
  std::vector<ModelTensor> tensors;
  std::vector<StoredTensor> stored;  // beside `tensors`
};

// Rows [row, row + rows) of tensor `index`, in thimble's order; the range is the caller's to check.
Result<void> read_stored(const StoredModel& model, size_t index, int64_t row, int64_t rows, std::span<std::byte> to);

// One row of the table of formats (model_source.cpp), one file each.
struct ModelFormat {
  std::string_view name;
  std::string_view description;
  bool (*recognises)(const std::string& path);
  Result<StoredModel> (*open)(const std::string& path);
};

extern const ModelFormat kHfFolder;
extern const ModelFormat kGgufModel;
extern const ModelFormat kLlama2c;

}  // namespace thimble
