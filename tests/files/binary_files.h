// Files built byte by byte, apart from the writers under test, so that they can be broken in any place.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace thimble {

class Bytes {
 public:
  template <class T>
  Bytes& add(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof(T));
    return *this;
  }
  Bytes& raw(std::string_view text) { return text_ += text, *this; }
  Bytes& string(std::string_view text) { return add(uint64_t{text.size()}).raw(text); }
  Bytes& pad(size_t alignment) {
    while (text_.size() % alignment) text_ += '\0';
    return *this;
  }

  Bytes& gguf_header(uint32_t version, uint64_t tensors, uint64_t keys) {
    return raw("GGUF").add(version).add(tensors).add(keys);
  }
  Bytes& key_string(std::string_view key, std::string_view value) { return string(key).add(uint32_t{8}).string(value); }
  Bytes& key_u32(std::string_view key, uint32_t value) { return string(key).add(uint32_t{4}).add(value); }
  Bytes& key_f32(std::string_view key, float value) { return string(key).add(uint32_t{6}).add(value); }
  // `columns` first, as in the file; rows 0 for a vector.
  Bytes& gguf_tensor(std::string_view name, uint64_t columns, uint64_t rows, uint32_t type, uint64_t offset) {
    string(name).add(uint32_t{rows ? 2u : 1u}).add(columns);
    if (rows) add(rows);
    return add(type).add(offset);
  }

  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

inline std::string safetensors_bytes(std::string_view header, size_t data_bytes) {
  return Bytes().string(header).text() + std::string(data_bytes, '\x3f');
}

// Two tensors and some keys; the data is 64 bytes.
inline std::string good_gguf() {
  return Bytes()
      .gguf_header(3, 2, 3)
      .key_string("general.architecture", "llama")
      .key_u32("llama.block_count", 2)
      .string("tokens")
      .add(uint32_t{9})
      .add(uint32_t{8})
      .add(uint64_t{2})
      .string("a")
      .string("bc")
      .gguf_tensor("first", 4, 2, 0, 0)
      .gguf_tensor("second", 8, 0, 0, 32)
      .pad(32)
      .raw(std::string(64, '\x3f'))
      .text();
}

}  // namespace thimble
