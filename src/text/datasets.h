// The kinds of data sets behind Dataset::open.
#pragma once

#include "files/file.h"
#include "text/dataset.h"

namespace thimble {

// Bytes of the UTF-8 byte order mark that some editors begin a text with: 3, or 0 without one.
Result<uint64_t> byte_order_mark(const InputFile& file);

// JSONL, or with `array` one JSON array.
Result<std::unique_ptr<Dataset>> open_json_dataset(InputFile file, bool array, Tokenizer& tokenizer,
                                                   const DatasetOptions& options);
Result<std::unique_ptr<Dataset>> open_text_windows(InputFile file, Tokenizer& tokenizer, const DatasetOptions& options);

}  // namespace thimble
