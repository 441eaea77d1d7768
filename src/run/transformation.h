// Makes another model of one, layer by layer, within a budget: calibration text through the blocks where the transform
// has an observer, new weights into a temporary file, and the whole as rows for a writer.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "files/file.h"
#include "models/row_stream.h"
#include "plan/transform.h"
#include "run/arena.h"
#include "run/executor.h"
#include "run/values.h"
#include "text/dataset.h"

namespace thimble {

// What became of one layer.
struct ChangedLayer {
  std::string tensor;
  int64_t weights = 0, zeros = 0;
  double change = 0;                 // |new - old| / |old|, Frobenius
  std::span<const float> statistic;  // of its inputs, as observed; empty without an observer
};

class Transformation {
 public:
  // `source` and `threads` must outlive it. spec: all but the budget.
  Transformation(const ModelSource& source, Threads& threads, TransformSpec spec)
      : source_(source), threads_(threads), spec_(std::move(spec)) {}

  // What the caller will hold while it runs must exist by now: it is measured with the process. memory: 0: 80 % of what
  // is free.
  Result<void> plan(int64_t memory);
  const TransformPlan& plan() const { return plan_; }

  // Changes every layer. `data`: the calibration text, of which spec.samples examples spread over all are taken;
  // nullptr where the transform has no observer. Cancelled where the process was interrupted.
  using OnLayer = std::function<void(const ChangedLayer&)>;
  Result<void> run(Dataset* data, const OnLayer& on_layer);
  // Rows that statistics were gathered of.
  int64_t observed_rows() const { return rows_; }

  // Once it has run: the new model. `this` must outlive them.
  std::span<const ModelTensor> tensors() const { return tensors_; }
  ReadRows rows() const;

 private:
  Result<void> check_statistics() const;
  struct Pass {
    int64_t first = 0, rows = 0;
  };
  Result<void> begin();
  Result<void> load_block(int64_t block);
  Result<void> load_layer(const ModelTensor& tensor, const std::string& value);
  Result<void> embed(Dataset& data);
  Result<void> add_sample(const Example& example);
  Result<void> embed_pass();
  Result<void> pass_through(size_t program, bool replaces);
  Result<void> run_program(size_t program, int64_t rows);
  Result<void> change(const ModelTensor& tensor, const LayerProgram& layer, const OnLayer& on_layer);
  Result<void> change_block(int64_t block, std::span<const TensorSpec> layers, const OnLayer& on_layer);
  Result<void> store(const ModelTensor& tensor, const LayerProgram& layer, const OnLayer& on_layer);
  Values values();
  template <class T>
  T* value(const std::string& name) {
    return reinterpret_cast<T*>(arena_->data() + plan_.layout.find(name)->offset);
  }
  std::byte* input(size_t program, const char* name) { return value<std::byte>(plan_.programs[program].prefix + name); }

  const ModelSource& source_;
  Threads& threads_;
  TransformSpec spec_;
  HeapHoles holes_;  // as long as a plan is carried out
  TransformPlan plan_;
  std::optional<Arena> arena_;
  std::vector<Executor> executors_;
  std::vector<Pass> passes_;
  std::vector<int32_t> ids_;  // of the pass that is being filled
  int64_t rows_ = 0;          // of the stream, filled

  std::optional<TemporaryFile> writing_;
  std::optional<InputFile> written_;
  std::map<std::string, uint64_t, std::less<>> offsets_;  // of new weights
  std::vector<ModelTensor> tensors_;
};

}  // namespace thimble
