#include "models/labelled_model.h"

#include <algorithm>

#include "core/random.h"

namespace thimble {
namespace {

class LabelledModel : public ModelSource {
 public:
  LabelledModel(std::unique_ptr<ModelSource> source, Labels labels, std::optional<uint64_t> seed)
      : source_(std::move(source)), seed_(seed) {
    path_ = source_->path();
    architecture_ = labelled(source_->architecture(), std::move(labels));
    std::vector<ModelTensor> tensors;
    for (const TensorSpec& spec : tensor_specs(architecture_)) {
      const ModelTensor* const there = source_->find(spec.name);
      tensors.push_back(there ? *there : ModelTensor{spec.name, &kF32, spec.shape});
    }
    set_tensors(std::move(tensors));
  }

  Result<void> read(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) const override {
    if (tensor.name != kScoreHead) return source_->read(tensor, row, rows, to);
    const int64_t columns = tensor.shape.columns(), first = row * columns;
    if (to.size() != static_cast<size_t>(rows * columns) * sizeof(float))
      return fail(ErrorCode::invalid_argument, "reading {}: {} rows of '{}' take {} bytes, room is for {}", path_, rows,
                  tensor.name, static_cast<size_t>(rows * columns) * sizeof(float), to.size());
    auto* const numbers = reinterpret_cast<float*>(to.data());
    const Random random(seed_.value_or(0), kScoreHead);
    for (int64_t i = 0; i < rows * columns; ++i)
      numbers[i] = seed_ ? kDeviation * random.normal(static_cast<uint64_t>(first + i)) : 0;
    return {};
  }

 private:
  std::unique_ptr<ModelSource> source_;
  std::optional<uint64_t> seed_;
};

}  // namespace

Result<std::unique_ptr<ModelSource>> with_labels(std::unique_ptr<ModelSource> source, Labels labels,
                                                 std::optional<uint64_t> seed) {
  if (source->architecture().labels)
    return fail(ErrorCode::invalid_argument, "{}: the model has a head for labels already", source->path());
  return std::unique_ptr<ModelSource>(std::make_unique<LabelledModel>(std::move(source), std::move(labels), seed));
}

}  // namespace thimble
