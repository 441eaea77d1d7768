// The kinds of data sets behind Dataset::open.
#pragma once

#include "files/file.h"
#include "text/dataset.h"
#include "text/json_records.h"

namespace thimble {

// Bytes of the UTF-8 byte order mark that some editors begin a text with: 3, or 0 without one.
Result<uint64_t> byte_order_mark(const InputFile& file);

Result<std::unique_ptr<Dataset>> open_json_dataset(InputFile file, RecordForm form, Tokenizer& tokenizer,
                                                   const DatasetOptions& options);
Result<std::unique_ptr<Dataset>> open_text_windows(InputFile file, Tokenizer& tokenizer, const DatasetOptions& options);

// A safetensors file with a tensor `ids` [n, t] of int32 or int64: windows that are tokenized already.
Result<std::unique_ptr<Dataset>> open_token_windows(const std::string& path, const DatasetOptions& options);
// Tokens of such windows where `files` is one file of them, else nothing.
Result<std::optional<int64_t>> token_window_length(const std::string& files);

// Several data sets one after another.
std::unique_ptr<Dataset> join_datasets(std::vector<std::unique_ptr<Dataset>> parts);

}  // namespace thimble
