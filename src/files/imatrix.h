// Importance matrices of llama.cpp (tools/imatrix): of every matrix of a GGUF model the mean square of each input.
//
//   GGUF    general.type "imatrix", imatrix.datasets, .chunk_count, .chunk_size; of matrix NAME two tensors in f32:
//           NAME.in_sum2 [matrices, columns], sums of squares, and NAME.counts [matrices, 1], of how many rows
//   legacy  entries i32 x { length i32, name, calls i32, values i32, f32 x values: means times calls },
//           then, since 2024, chunks i32, length i32, name of the data
//
// Several matrices under one name are experts. Everything in a file is untrusted.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/file.h"

namespace thimble {

struct ImatrixEntry {
  int64_t matrices = 1, columns = 0;  // legacy files do not tell experts apart: one matrix of all values
  uint64_t offset = 0;                // of the values in the file
  uint64_t counts = 0;                // of the counts, f32; legacy: 0
  double calls = 0;                   // legacy: what the values are to be divided by; 0: nothing
};

class Imatrix {
 public:
  static bool recognises(const std::string& path);
  static Result<Imatrix> open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  bool legacy() const { return legacy_; }
  const std::map<std::string, ImatrixEntry, std::less<>>& entries() const { return entries_; }
  int64_t chunks() const { return chunks_; }  // of text that went in; 0: not said
  const std::vector<std::string>& datasets() const { return datasets_; }

  // Mean squares of the inputs of one matrix, `to.size()` columns: the `which`-th of `among` that share the entry. 1
  // where nothing was observed of it, as in llama.cpp. corrupt where a number is negative or not finite.
  Result<void> read(std::string_view name, int64_t which, int64_t among, std::span<float> to) const;

 private:
  explicit Imatrix(InputFile file) : file_(std::move(file)) {}
  Result<void> index_gguf();
  Result<void> index_legacy();

  InputFile file_;
  bool legacy_ = false;
  int64_t chunks_ = 0;
  std::vector<std::string> datasets_;
  std::map<std::string, ImatrixEntry, std::less<>> entries_;
};

}  // namespace thimble
