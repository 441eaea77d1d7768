// GGUF files, versions 2 and 3, little-endian: metadata and the index of tensors.
//
//   "GGUF"  version u32  tensors u64  keys u64
//   keys x    { key string, type u32, value }              string: length u64, bytes
//   tensors x { name string, rank u32, extents u64 x rank (fastest first), type u32, offset u64 }
//   padding to `general.alignment` (32), then the data that offsets count from
//
// Everything in a file is untrusted: lengths are checked against the file before anything is allocated for them.
// Arrays stay in the file and are streamed when asked for, so a vocabulary costs nothing until it is read.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "core/result.h"
#include "core/shape.h"
#include "files/file.h"
#include "files/gguf_types.h"

namespace thimble {

enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

std::string_view name(GgufType type);

// An array of scalars or strings; its elements are still in the file.
struct GgufArray {
  GgufType element = GgufType::u8;
  uint64_t count = 0;
  uint64_t offset = 0;  // of the first element in the file
  uint64_t bytes = 0;
};

struct GgufValue {
  std::string key;
  GgufType type;
  std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray> value;
  uint64_t offset = 0;  // of the value in the file, after its type
  uint64_t bytes = 0;
};

struct GgufTensor {
  std::string name;
  int64_t type = 0;     // ggml_type; may be one that find_gguf_tensor_type does not know
  Shape shape;          // slowest extent first, as everywhere in thimble
  uint64_t offset = 0;  // from the start of the file
  uint64_t bytes = 0;   // 0 when the type is unknown
  size_t part = 0;      // of a model that is split into several files, the one that holds it
};

class GgufFile {
 public:
  // Of a split model (split.count) the first of its files, name-00001-of-00003.gguf; the others are found beside it,
  // and their tensors are listed with its own.
  static Result<GgufFile> open(const std::string& path);
  static bool recognises(const std::string& path);  // by its first four bytes

  const std::string& path() const { return file_.path(); }
  const InputFile& file(size_t part = 0) const { return part == 0 ? file_ : parts_[part - 1]; }
  size_t parts() const { return 1 + parts_.size(); }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }

  // In the order of the file.
  const std::vector<GgufValue>& values() const { return values_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;
  const GgufValue* find_value(std::string_view key) const;

  // A scalar, string or array as T: bool, int64_t, double, std::string or GgufArray. Nothing when the key is absent;
  // an error that names the key when the value is of another kind (an integer is also a double).
  template <class T>
  Result<std::optional<T>> find(std::string_view key) const;
  // The same, where an absent key is an error.
  template <class T>
  Result<T> get(std::string_view key) const;
  // The same, with a value for an absent key.
  template <class T>
  Result<T> get_or(std::string_view key, T otherwise) const;

  // Streams a string array through one small buffer, in order; stops at the first error of `visit`. The view lasts
  // until `visit` returns.
  Result<void> for_each_string(std::string_view key, const std::function<Result<void>(std::string_view)>& visit) const;
  // Arrays of numbers: any integer type (in range of int32), any number.
  Result<std::vector<int32_t>> integers(std::string_view key) const;
  Result<std::vector<float>> floats(std::string_view key) const;

 private:
  explicit GgufFile(InputFile file) : file_(std::move(file)) {}
  static Result<GgufFile> open_one(const std::string& path);
  Result<void> check_layout();
  Result<void> open_parts();

  InputFile file_;
  std::vector<InputFile> parts_;  // the files of a split model after the first
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  std::vector<GgufValue> values_;
  std::vector<GgufTensor> tensors_;
};

template <class T>
Result<T> GgufFile::get(std::string_view key) const {
  std::optional<T> found = TRY(find<T>(key));
  if (!found) return fail(ErrorCode::corrupt, "reading {}: the metadata key '{}' is missing", path(), key);
  return *std::move(found);
}

template <class T>
Result<T> GgufFile::get_or(std::string_view key, T otherwise) const {
  std::optional<T> found = TRY(find<T>(key));
  if (!found) return otherwise;
  return *std::move(found);
}

}  // namespace thimble
