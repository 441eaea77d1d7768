// Safetensors files: an index of named tensors, and their bytes.
//
//   header length u64 | header: JSON { "name": { "dtype", "shape", "data_offsets": [begin, end] }, "__metadata__" } |
//   data, which the tensors cover without overlap or hole
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codecs/codec.h"
#include "core/result.h"
#include "core/shape.h"
#include "files/file.h"

namespace thimble {

struct SafetensorsEntry {
  std::string name;
  std::string dtype;  // "F32", "BF16", "I64" ...
  Shape shape;
  const Codec* codec = nullptr;  // nullptr when none of ours reads the dtype (integers)
  uint64_t offset = 0;           // from the start of the file
  uint64_t bytes = 0;
};

class SafetensorsFile {
 public:
  // The header is untrusted: a file that opens has every tensor inside it, named once, sized as its shape says.
  static Result<SafetensorsFile> open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const InputFile& file() const& { return file_; }
  InputFile take_file() && { return std::move(file_); }
  std::span<const SafetensorsEntry> entries() const { return entries_; }  // in the order of their data
  const SafetensorsEntry* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  explicit SafetensorsFile(InputFile file) : file_(std::move(file)) {}
  InputFile file_;
  std::vector<SafetensorsEntry> entries_;
  std::map<std::string, std::string> metadata_;
};

// What to write; the bytes follow in the same order.
struct SafetensorsTensor {
  std::string name;
  std::string_view dtype;
  Shape shape;
};

// Writes the header when created and then data as it comes, so that it never holds a tensor.
class SafetensorsWriter {
 public:
  // `metadata` always gains "format": "pt", without which Python's readers refuse the file.
  static Result<SafetensorsWriter> create(const std::string& path, std::span<const SafetensorsTensor> tensors,
                                          std::map<std::string, std::string> metadata = {});
  // The next bytes of the data, tensor after tensor, in pieces of any size.
  Result<void> write(std::span<const std::byte> bytes);
  // XXH3 of all that is before the data.
  uint64_t header_hash() const { return header_hash_; }
  // Fails when bytes are missing; otherwise all is on disk, under another name until finish().
  Result<void> sync();
  // Syncs, too; then the file is in place.
  Result<void> finish();

 private:
  SafetensorsWriter(OutputFile file, std::string path, uint64_t expected)
      : file_(std::move(file)), path_(std::move(path)), left_(expected) {}
  OutputFile file_;
  std::string path_;
  uint64_t left_;  // bytes still to come
  uint64_t header_hash_ = 0;
};

// Bytes of one element of a dtype; nothing for one that is unknown or not of whole bytes.
std::optional<uint64_t> safetensors_element_bytes(std::string_view dtype);

}  // namespace thimble
