#include "models/untied_model.h"

namespace thimble {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kHead = "lm_head.weight";

class UntiedModel : public ModelSource {
 public:
  explicit UntiedModel(std::unique_ptr<ModelSource> source) : source_(std::move(source)) {
    path_ = source_->path();
    architecture_ = source_->architecture();
    architecture_.tied = false;
    std::vector<ModelTensor> tensors;
    for (const TensorSpec& spec : tensor_specs(architecture_)) {
      const ModelTensor* const there = source_->find(spec.name);
      tensors.push_back(there ? *there : ModelTensor{spec.name, source_->find(kEmbedding)->codec, spec.shape});
    }
    set_tensors(std::move(tensors));
  }

  Result<void> read(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) const override {
    return source_->read(tensor.name == kHead ? *source_->find(kEmbedding) : tensor, row, rows, to);
  }

 private:
  std::unique_ptr<ModelSource> source_;
};

}  // namespace

std::unique_ptr<ModelSource> with_own_head(std::unique_ptr<ModelSource> source) {
  if (!source->architecture().tied) return source;
  return std::make_unique<UntiedModel>(std::move(source));
}

}  // namespace thimble
