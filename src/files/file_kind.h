// What a file holds, by its bytes and not by its name, so that nothing binary is ever taken for text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "files/file.h"

namespace thimble {

struct FileKind {
  enum Form { text, gzip, zstd, safetensors, refused, unknown };  // unknown: neither UTF-8 nor anything known
  Form form;
  std::string_view name;    // "a gzip file"
  std::string_view advice;  // of what is refused: what to do with it
};

// text: UTF-8 as far as the first kilobytes tell, or empty.
Result<const FileKind*> file_kind(const InputFile& file);
// The same of the first bytes of something; `whole`: there are no more.
const FileKind* kind_of_bytes(std::string_view head, bool whole);

// "reading x.parquet: it is a Parquet file; ..."
Failure refuse_kind(const std::string& path, const FileKind& kind);

// Offset of the first byte that is not UTF-8, or the length. `more`: the text goes on, so that a character may be cut
// at its end.
size_t valid_utf8(std::string_view text, bool more);

// The whole of a small text file, without a byte order mark; what is not UTF-8 text is refused by name.
Result<std::string> read_utf8_file(const std::string& path, uint64_t limit_bytes = 64u << 20);

}  // namespace thimble
