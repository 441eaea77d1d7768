// Reads a GGUF file forward through a small buffer, checking every length against what is left of the file.
// Part of the GGUF reader; nothing else includes it.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/file.h"

namespace thimble {

constexpr uint64_t kLongestGgufElement = 1u << 20;  // one string of an array: a token

// `what` in every call is named in the error.
class GgufCursor {
 public:
  GgufCursor(const InputFile& file, uint64_t offset) : file_(file), offset_(offset) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return file_.size() - offset_; }
  const InputFile& file() const { return file_; }

  Result<void> bytes(std::span<std::byte> to, std::string_view what) {
    CHECK_OK(need(to.size(), what));
    while (!to.empty()) {
      if (offset_ < begin_ || offset_ >= begin_ + filled_) CHECK_OK(fill());
      const size_t at = offset_ - begin_;
      const size_t piece = std::min(to.size(), filled_ - at);
      std::memcpy(to.data(), buffer_.data() + at, piece);
      to = to.subspan(piece);
      offset_ += piece;
    }
    return {};
  }

  template <class T>
  Result<T> number(std::string_view what) {
    T value;
    CHECK_OK(bytes(std::as_writable_bytes(std::span(&value, 1)), what));
    return value;
  }

  Result<void> string(std::string& to, uint64_t longest, std::string_view what) {
    const uint64_t length = TRY(number<uint64_t>(what));
    if (length > longest || length > left()) {
      return fail(ErrorCode::corrupt, "reading {}: {} at offset {} claims {} bytes; at most {} are possible there",
                  file_.path(), what, offset_, length, std::min(longest, left()));
    }
    to.resize(length);
    return bytes(std::as_writable_bytes(std::span(to)), what);
  }

  Result<void> skip(uint64_t count, std::string_view what) {
    CHECK_OK(need(count, what));
    offset_ += count;
    return {};
  }

 private:
  Result<void> need(uint64_t count, std::string_view what) const {
    if (count <= left()) return {};
    return fail(ErrorCode::corrupt, "reading {}: {} needs {} bytes at offset {}, but the file ends after {} more",
                file_.path(), what, count, offset_, left());
  }
  Result<void> fill() {
    begin_ = offset_;
    filled_ = std::min<uint64_t>(buffer_.size(), left());
    return file_.read(begin_, std::span(buffer_).first(filled_));
  }

  const InputFile& file_;
  uint64_t offset_;
  uint64_t begin_ = 0, filled_ = 0;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(16384);
};

}  // namespace thimble
