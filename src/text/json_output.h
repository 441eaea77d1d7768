// A JSON file written as it is made, for files too large to hold as a tree.
#pragma once

#include <string>
#include <string_view>

#include "files/file.h"

namespace thimble {

// Text in quotes. What is not UTF-8 becomes U+FFFD, as JSON cannot hold it.
void append_json_string(std::string& to, std::string_view text);
std::string json_string(std::string_view text);

class JsonOutput {
 public:
  explicit JsonOutput(OutputFile file) : file_(std::move(file)) {}
  void raw(std::string_view text) { buffer_ += text; }
  void string(std::string_view text) { append_json_string(buffer_, text); }
  // Between two items of a list or object: nothing before the first. Writes what has gathered.
  Result<void> separate(bool& first) {
    if (!first) buffer_ += ",\n";
    first = false;
    return buffer_.size() < kFlushBytes ? Result<void>() : flush();
  }
  Result<void> commit() {
    CHECK_OK(flush());
    return file_.commit();
  }

 private:
  static constexpr size_t kFlushBytes = 64 << 10;
  Result<void> flush() {
    CHECK_OK(file_.write(buffer_));
    buffer_.clear();
    return {};
  }

  OutputFile file_;
  std::string buffer_;
};

}  // namespace thimble
