// The records of a JSONL file or of a JSON array, streamed: where each lies, never its text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "files/file.h"

namespace thimble {

struct JsonRecord {
  uint64_t offset = 0;
  uint64_t length = 0;
  int64_t line = 0;  // of its first byte, from 1
};

// Records of any length are handed out; a reader with a limit refuses them in `visit`. Lines that hold only
// whitespace are none.
Result<void> for_each_line(const InputFile& file, const std::function<Result<void>(const JsonRecord&)>& visit);
// The elements of the array that the file holds. Brackets are counted, strings are skipped; that an element is JSON
// is for its parser to find out.
Result<void> for_each_element(const InputFile& file, const std::function<Result<void>(const JsonRecord&)>& visit);

// JSON objects one after another with whitespace between, each over any number of lines.
Result<void> for_each_value(const InputFile& file, const std::function<Result<void>(const JsonRecord&)>& visit);

// How the records of a file lie in it.
enum class RecordForm {
  lines,  // one a line
  array,  // elements of one JSON array
  values  // JSON objects one after another, over any number of lines
};
Result<void> for_each_record(const InputFile& file, RecordForm form,
                             const std::function<Result<void>(const JsonRecord&)>& visit);

}  // namespace thimble
