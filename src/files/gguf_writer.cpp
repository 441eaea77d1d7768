#include "files/gguf_writer.h"

#include <algorithm>

namespace thimble {
namespace {

constexpr uint64_t kAlignment = 32;
constexpr uint64_t kCopyPiece = 64u << 10;

template <class T>
void append(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void append_string(std::string& to, std::string_view text) {
  append(to, uint64_t{text.size()});
  to += text;
}

uint64_t padded(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

std::string& GgufWriter::begin_value(std::string_view key, GgufType type) {
  std::string& bytes = metadata_.emplace_back().bytes;
  append_string(bytes, key);
  append(bytes, static_cast<uint32_t>(type));
  return bytes;
}

std::string& GgufWriter::begin_array(std::string_view key, GgufType element, uint64_t count) {
  std::string& bytes = begin_value(key, GgufType::array);
  append(bytes, static_cast<uint32_t>(element));
  append(bytes, count);
  return bytes;
}

void GgufWriter::add_integer(std::string_view key, uint32_t value) { append(begin_value(key, GgufType::u32), value); }

void GgufWriter::add_float(std::string_view key, float value) { append(begin_value(key, GgufType::f32), value); }

void GgufWriter::add_bool(std::string_view key, bool value) {
  append(begin_value(key, GgufType::boolean), static_cast<uint8_t>(value));
}

void GgufWriter::add_string(std::string_view key, std::string_view value) {
  append_string(begin_value(key, GgufType::string), value);
}

void GgufWriter::add_strings(std::string_view key, const StringList& values) {
  std::string& bytes = begin_array(key, GgufType::string, values.size());
  for (size_t i = 0; i < values.size(); ++i) append_string(bytes, values[i]);
}

void GgufWriter::add_floats(std::string_view key, std::span<const float> values) {
  std::string& bytes = begin_array(key, GgufType::f32, values.size());
  for (float value : values) append(bytes, value);
}

void GgufWriter::add_integers(std::string_view key, std::span<const int32_t> values) {
  std::string& bytes = begin_array(key, GgufType::i32, values.size());
  for (int32_t value : values) append(bytes, value);
}

void GgufWriter::copy(const GgufFile& source, const GgufValue& value) {
  begin_value(value.key, value.type);
  Piece& piece = metadata_.back();
  piece.file = &source.file();
  piece.offset = value.offset;
  piece.count = value.bytes;
}

Result<void> GgufWriter::add_tensor(std::string_view name, int type, const Shape& shape) {
  const GgufTensorType* known = find_gguf_tensor_type(type);
  if (!known) {
    return fail(ErrorCode::unsupported, "writing GGUF: tensor '{}' is of a type that GGUF does not have ({})", name,
                type);
  }
  if (shape.columns() % known->block != 0) {
    return fail(ErrorCode::invalid_argument,
                "writing GGUF: rows of tensor '{}' have {} elements, no multiple of {}'s {}", name, shape.columns(),
                known->name, known->block);
  }
  const uint64_t bytes = static_cast<uint64_t>(shape.count() / known->block * known->block_bytes);
  tensors_.push_back({std::string(name), type, shape, bytes});
  return {};
}

Result<void> GgufWriter::start(const std::string& path) {
  path_ = path;
  file_ = TRY(OutputFile::create(path));
  std::string header = "GGUF";
  append(header, uint32_t{3});
  append(header, uint64_t{tensors_.size()});
  append(header, uint64_t{metadata_.size()});
  CHECK_OK(file_->write(header));
  std::vector<std::byte> buffer;
  for (const Piece& piece : metadata_) {
    CHECK_OK(file_->write(piece.bytes));
    for (uint64_t done = 0; done < piece.count; done += buffer.size()) {
      buffer.resize(std::min(kCopyPiece, piece.count - done));
      CHECK_OK(piece.file->read(piece.offset + done, buffer));
      CHECK_OK(file_->write(buffer));
    }
  }
  metadata_.clear();
  CHECK_OK(write_tensor_list());
  return file_->write_zeros(padded(file_->size()) - file_->size());
}

Result<void> GgufWriter::write_tensor_list() {
  std::string list;
  uint64_t offset = 0;
  for (const Tensor& tensor : tensors_) {
    append_string(list, tensor.name);
    append(list, static_cast<uint32_t>(tensor.shape.rank()));
    for (int axis = tensor.shape.rank() - 1; axis >= 0; --axis) append(list, static_cast<uint64_t>(tensor.shape[axis]));
    append(list, static_cast<uint32_t>(tensor.type));
    append(list, offset);
    offset += padded(tensor.bytes);
  }
  return file_->write(list);
}

Result<void> GgufWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (!file_ || next_ == tensors_.size()) {
      return fail(ErrorCode::invalid_argument, "writing {}: {} bytes more than were announced", path_, bytes.size());
    }
    const uint64_t count = std::min<uint64_t>(bytes.size(), tensors_[next_].bytes - written_);
    CHECK_OK(file_->write(bytes.first(count)));
    bytes = bytes.subspan(count);
    written_ += count;
    if (written_ < tensors_[next_].bytes) continue;
    CHECK_OK(file_->write_zeros(padded(written_) - written_));
    ++next_;
    written_ = 0;
  }
  return {};
}

Result<void> GgufWriter::finish() {
  if (!file_ || next_ != tensors_.size()) {
    return fail(ErrorCode::invalid_argument, "writing {}: the data of tensor '{}' is not complete", path_,
                next_ < tensors_.size() ? tensors_[next_].name : "");
  }
  return file_->commit();
}

}  // namespace thimble
