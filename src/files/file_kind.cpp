#include "files/file_kind.h"

#include <algorithm>
#include <array>

namespace thimble {
namespace {

using namespace std::string_view_literals;

struct Magic {
  std::string_view bytes;
  FileKind kind;
};

constexpr std::string_view kUnpack = "unpack it first and give the text file inside";
constexpr std::string_view kRecode = "convert it to UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW";
constexpr std::string_view kExport = "export it as JSONL or CSV";

constexpr std::array kMagics{
    Magic{"\x1f\x8b"sv, {FileKind::gzip, "a gzip file", ""}},
    Magic{"\x28\xb5\x2f\xfd"sv, {FileKind::zstd, "a Zstandard (zstd) file", ""}},
    Magic{"PK\x03\x04"sv, {FileKind::refused, "a zip archive", kUnpack}},
    Magic{"PK\x05\x06"sv, {FileKind::refused, "an empty zip archive", kUnpack}},
    Magic{"BZh"sv, {FileKind::refused, "a file compressed by bzip2", "unpack it with bunzip2"}},
    Magic{"\xfd"
          "7zXZ\0"sv,
          {FileKind::refused, "a file compressed by xz", "unpack it with unxz"}},
    Magic{"7z\xbc\xaf\x27\x1c"sv, {FileKind::refused, "a 7z archive", kUnpack}},
    Magic{"Rar!"sv, {FileKind::refused, "a RAR archive", kUnpack}},
    Magic{"\x04\x22\x4d\x18"sv, {FileKind::refused, "a file compressed by lz4", "unpack it with unlz4"}},
    Magic{
        "PAR1"sv,
        {FileKind::refused, "a Parquet file",
         "convert it to JSONL: python3 -c \"import pandas as p, sys; p.read_parquet(sys.argv[1]).to_json(sys.argv[2], "
         "orient='records', lines=True)\" FILE NEW.jsonl"}},
    Magic{"ARROW1"sv, {FileKind::refused, "an Arrow (Feather) file", "convert it to JSONL"}},
    Magic{"SQLite format 3\0"sv, {FileKind::refused, "an SQLite database", kExport}},
    Magic{"%PDF"sv, {FileKind::refused, "a PDF document", "extract its text: pdftotext FILE"}},
    Magic{"\x93NUMPY"sv,
          {FileKind::refused, "a NumPy file", "write token ids as a safetensors file with a tensor 'ids' [n, t]"}},
    Magic{"version https://git-lfs"sv,
          {FileKind::refused, "a pointer of Git LFS, and not the file itself",
           "fetch that: git lfs pull, in the folder of the clone"}},
    Magic{"GGUF"sv, {FileKind::refused, "a GGUF model", "give data, and the model with --model"}},
    Magic{"\x80\x02"sv, {FileKind::refused, "a Python pickle", "write it as JSONL"}},
    Magic{"\x80\x03"sv, {FileKind::refused, "a Python pickle", "write it as JSONL"}},
    Magic{"\x80\x04"sv, {FileKind::refused, "a Python pickle", "write it as JSONL"}},
    Magic{"\x80\x05"sv, {FileKind::refused, "a Python pickle", "write it as JSONL"}},
    Magic{"\x89HDF"sv, {FileKind::refused, "an HDF5 file", kExport}},
    Magic{"\x89PNG"sv, {FileKind::refused, "a PNG picture", "give text"}},
    Magic{"\x7f"
          "ELF"sv,
          {FileKind::refused, "a program", "give text"}},
    Magic{"{\\rtf"sv, {FileKind::refused, "an RTF document", "save it as plain text"}},
    Magic{"\xff\xfe\0\0"sv, {FileKind::refused, "text in UTF-32", "convert it to UTF-8 with iconv"}},
    Magic{"\0\0\xfe\xff"sv, {FileKind::refused, "text in UTF-32", "convert it to UTF-8 with iconv"}},
    Magic{"\xff\xfe"sv, {FileKind::refused, "text in UTF-16", kRecode}},
    Magic{"\xfe\xff"sv, {FileKind::refused, "text in UTF-16", kRecode}},
};

constexpr FileKind kText = {FileKind::text, "UTF-8 text", ""};
constexpr FileKind kSafetensors = {FileKind::safetensors, "a safetensors file", ""};
constexpr FileKind kUtf16 = {FileKind::refused, "text in UTF-16, it seems", kRecode};
constexpr FileKind kNotUtf8 = {FileKind::unknown, "no UTF-8 text, and of no other kind that is known (binary?)",
                               "if it is text in an older encoding, convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW"};

constexpr size_t kHead = 4096;

// Eight bytes of length, then a JSON object.
bool is_safetensors(std::string_view head) {
  if (head.size() < 10 || head[8] != '{') return false;
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = length << 8 | static_cast<unsigned char>(head[static_cast<size_t>(i)]);
  return length >= 2 && length <= (uint64_t{1} << 30);
}

// Every other byte is zero where the text is of the first 256 characters.
bool is_utf16(std::string_view head) {
  if (head.size() < 8) return false;
  size_t zeros[2] = {0, 0};
  for (size_t i = 0; i < head.size(); ++i) zeros[i % 2] += head[i] == '\0';
  const size_t half = head.size() / 2;
  return (zeros[0] > half * 3 / 4 && zeros[1] == 0) || (zeros[1] > half * 3 / 4 && zeros[0] == 0);
}

}  // namespace

size_t valid_utf8(std::string_view text, bool more) {
  for (size_t at = 0; at < text.size();) {
    const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) {
      ++at;
      continue;
    }
    const size_t length = lead >= 0xc2 && lead < 0xe0   ? 2
                          : lead >= 0xe0 && lead < 0xf0 ? 3
                          : lead >= 0xf0 && lead < 0xf5 ? 4
                                                        : 0;
    if (length == 0) return at;
    const size_t there = std::min(length, text.size() - at);
    for (size_t i = 1; i < there; ++i)
      if ((byte(i) & 0xc0) != 0x80) return at;
    const bool narrow = there > 1 && ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f) ||
                                      (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f));
    if (narrow) return at;
    if (there < length) return more ? text.size() : at;
    at += length;
  }
  return text.size();
}

const FileKind* kind_of_bytes(std::string_view head, bool whole) {
  for (const Magic& magic : kMagics)
    if (head.starts_with(magic.bytes)) return &magic.kind;
  if (is_safetensors(head)) return &kSafetensors;
  if (is_utf16(head)) return &kUtf16;
  const bool zero = head.find('\0') != std::string_view::npos;
  return zero || valid_utf8(head, !whole) < head.size() ? &kNotUtf8 : &kText;
}

Result<const FileKind*> file_kind(const InputFile& file) {
  std::string head(std::min<uint64_t>(file.size(), kHead), '\0');
  CHECK_OK(file.read(0, std::as_writable_bytes(std::span(head))));
  return kind_of_bytes(head, head.size() == file.size());
}

Failure refuse_kind(const std::string& path, const FileKind& kind) {
  return fail(ErrorCode::unsupported, "reading {}: it is {}; {}", path, kind.name,
              kind.advice.empty() ? "give UTF-8 text" : kind.advice);
}

Result<std::string> read_utf8_file(const std::string& path, uint64_t limit_bytes) {
  std::string text = TRY(read_text_file(path, limit_bytes));
  const FileKind& kind = *kind_of_bytes(std::string_view(text).substr(0, kHead), text.size() <= kHead);
  if (kind.form != FileKind::text) return refuse_kind(path, kind);
  if (const size_t valid = valid_utf8(text, false); valid < text.size())
    return fail(ErrorCode::unsupported, "reading {}: the byte 0x{:02X} at offset {} is not UTF-8; {}", path,
                static_cast<unsigned char>(text[valid]), valid, kNotUtf8.advice);
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  return text;
}

}  // namespace thimble
