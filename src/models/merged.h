// A model with a LoRA adapter merged into it, a few rows at a time:  W + scale B A, in f32.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/adapter.h"
#include "models/row_stream.h"

namespace thimble {

class MergedModel {
 public:
  // `source` and `adapter` must outlive the result. Fails when a module of the adapter is no matrix of the model, or
  // of another shape.
  static Result<MergedModel> make(const ModelSource& source, const LoraAdapter& adapter);

  // The source's tensors in their order; the adapted ones in f32.
  std::span<const ModelTensor> tensors() const { return tensors_; }
  // Rows as a writer asks for them. Not thread-safe; `this` must outlive the result.
  ReadRows rows();
  // Most memory that reading takes, beside the caller's.
  int64_t buffer_bytes() const;

 private:
  explicit MergedModel(const ModelSource& source, const LoraAdapter& adapter) : source_(&source), adapter_(&adapter) {}
  Result<void> read_adapted(const LoraModule& module, const ModelTensor& stored, int64_t row, std::span<float> to);
  Result<void> load_a(const LoraModule& module);

  const ModelSource* source_;
  const LoraAdapter* adapter_;
  std::vector<ModelTensor> tensors_;
  std::map<std::string, const LoraModule*, std::less<>> modules_;  // by the name of the tensor
  // Of the module that is being read.
  const LoraModule* loaded_ = nullptr;
  std::vector<float> a_;      // [rank, in]
  std::vector<float> b_;      // [rank], of one row
  std::vector<float> delta_;  // [in]
  std::vector<std::byte> bytes_;
};

}  // namespace thimble
