// What a format's reader hands over: where every tensor of the model is in which file, and how its rows there differ
// from thimble's. One reader of rows (stored_model.cpp) then serves all formats.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "files/file.h"
#include "models/model_source.h"
#include "models/quantised.h"

namespace thimble {

struct StoredTensor {
  size_t file = 0;      // index into StoredModel::files
  uint64_t offset = 0;  // of the first byte of the file's tensor
  // Rows of ours (of a vector, elements) are rows [first, first + run) of the file's tensor, and as many after every
  // `period` rows. run 0: they are its rows.
  int64_t first = 0, run = 0, period = 0;
  // Not 0: of heads so long, rows 2i and 2i+1 are ours i and i + head_dim/2 (llama.cpp's order of q and k).
  int64_t pairs_of = 0;
  // Not 0: the file's tensor is [in, out], its rows so many bytes apart (GPT-2).
  int64_t transposed_stride = 0;
  float shift = 0;                           // added to numbers when read; of f32 vectors
  std::shared_ptr<const PackedRows> packed;  // reads the file's tensor in place of `file` and `offset`, where it is set
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
