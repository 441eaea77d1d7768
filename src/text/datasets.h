// The kinds of data sets behind Dataset::open.
#pragma once

#include "files/file.h"
#include "text/dataset.h"

namespace thimble {

// JSONL, or with `array` one JSON array.
Result<std::unique_ptr<Dataset>> open_json_dataset(InputFile file, bool array, Tokenizer& tokenizer,
                                                   const DatasetOptions& options);
Result<std::unique_ptr<Dataset>> open_text_windows(InputFile file, Tokenizer& tokenizer, const DatasetOptions& options);

}  // namespace thimble
