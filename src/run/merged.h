// A model with adapters merged into it, a slab of rows at a time: every technique says itself what weight and bias come
// to (Rewrite::weight, Rewrite::bias), as nodes of a small graph that is planned and run for each slab, in f32.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "adapters/adapter.h"
#include "core/threads.h"
#include "models/row_stream.h"
#include "run/derived.h"

namespace thimble {

class MergedModel {
 public:
  // `source` and `adapters` must outlive the result. Fails when an adapter does not fit the model.
  static Result<MergedModel> make(const ModelSource& source, std::span<Adapter> adapters);

  // The source's tensors in their order, those that an adapter changes in f32; an adapted head that was the embedding
  // is a tensor of its own at the end, and `architecture` says so.
  std::span<const ModelTensor> tensors() const { return tensors_; }
  const Architecture& architecture() const { return architecture_; }
  // Of those that an adapter changes.
  const std::set<std::string>& changed() const { return changed_; }
  // Rows as a writer asks for them. Not thread-safe; `this` must outlive the result.
  ReadRows rows();
  // Most memory that reading takes, beside the caller's.
  int64_t buffer_bytes() const;

 private:
  struct Slab;
  // Memory that is taken once and used again: freeing and taking the like again would leave holes in the heap.
  struct Buffer {
    std::shared_ptr<std::byte> memory;
    int64_t bytes = 0;
    Result<std::byte*> of(int64_t wanted, const std::string& what);
  };
  MergedModel(const ModelSource& source, std::span<Adapter> adapters) : source_(&source), adapters_(adapters) {}
  Result<void> list_tensors();
  const ModelTensor& stored(const std::string& name) const;
  Result<void> read_base(const std::string& name, int64_t row, int64_t rows, float* to);
  Result<void> read_slab(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to);
  Result<void> make_slab(const ModelTensor& tensor, int64_t row, int64_t rows);
  Result<void> begin(const std::string& value, const AdapterTensor& placed);
  Result<void> fill_slab(const ModelTensor& tensor);
  int64_t largest_slab_bytes() const;
  int64_t slab_rows(const ModelTensor& tensor) const;

  const ModelSource* source_;
  std::span<Adapter> adapters_;
  std::vector<RewriteSpec> specs_;
  Architecture architecture_;
  std::vector<ModelTensor> tensors_;
  std::set<std::string> changed_;
  std::map<std::string, std::pair<size_t, AdapterTensor>> whole_;  // by tensor: values that an adapter has whole
  std::shared_ptr<Slab> slab_;                                     // read last
  Buffer slab_memory_, begin_memory_;
  std::shared_ptr<Threads> threads_;
  Begun begun_;  // of the layer and technique whose values were computed last
  std::pair<size_t, std::string> begun_of_;
};

}  // namespace thimble
