// Writes GGUF version 3. Metadata and the list of tensors first, then their data in the same order, in pieces of any
// size; nothing of a tensor is kept. Keys copied from another file are streamed from it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/shape.h"
#include "files/file.h"
#include "files/gguf.h"
#include "files/tokenizer_tables.h"

namespace thimble {

class GgufWriter {
 public:
  void add_integer(std::string_view key, uint32_t value);
  void add_float(std::string_view key, float value);
  void add_bool(std::string_view key, bool value);
  void add_string(std::string_view key, std::string_view value);
  void add_strings(std::string_view key, const StringList& values);
  void add_floats(std::string_view key, std::span<const float> values);
  void add_integers(std::string_view key, std::span<const int32_t> values);
  // Verbatim. `source` must outlive start().
  void copy(const GgufFile& source, const GgufValue& value);
  // `type` is one of gguf_types.h, whose blocks the rows of `shape` are whole multiples of.
  Result<void> add_tensor(std::string_view name, int type, const Shape& shape);

  Result<void> start(const std::string& path);
  Result<void> write(std::span<const std::byte> bytes);
  // Fails when data is missing; otherwise the file is in place.
  Result<void> finish();

 private:
  struct Piece {
    std::string bytes;
    const InputFile* file = nullptr;  // then followed by this range of a file
    uint64_t offset = 0, count = 0;
  };
  struct Tensor {
    std::string name;
    int type;
    Shape shape;
    uint64_t bytes;
  };
  std::string& begin_value(std::string_view key, GgufType type);
  std::string& begin_array(std::string_view key, GgufType element, uint64_t count);
  Result<void> write_tensor_list();

  std::string path_;
  std::vector<Piece> metadata_;
  std::vector<Tensor> tensors_;
  std::optional<OutputFile> file_;
  size_t next_ = 0;       // tensor whose data is coming
  uint64_t written_ = 0;  // bytes of it that came
};

}  // namespace thimble
