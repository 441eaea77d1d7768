// Tables of text, CSV and TSV, as JSONL: every row one object, its fields named by the first row.
#pragma once

#include <optional>
#include <string_view>

#include "files/file.h"

namespace thimble {

// What separates the fields of a file that is such a table: one that is named .csv, .tsv or .tab, or whose first line
// is a list of names that a data set has (prompt,completion). Nothing: it is none.
//   head: the beginning of the file
std::optional<char> delimiter_of(const std::string& path, std::string_view head);

// In a temporary file. Quoted fields hold delimiters, line feeds and doubled quotes (RFC 4180). A field that must be a
// list (messages) is JSON within the table. The rows keep their numbers: line n of the result is row n, the names
// are 1. corrupt: a row with another number of fields than there are names; a quote that is never closed.
Result<InputFile> table_to_json_lines(const InputFile& file, char delimiter);

}  // namespace thimble
