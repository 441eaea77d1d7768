#include "models/merged.h"

#include <algorithm>

namespace thimble {

Result<MergedModel> MergedModel::make(const ModelSource& source, const LoraAdapter& adapter) {
  MergedModel merged(source, adapter);
  merged.tensors_.assign(source.tensors().begin(), source.tensors().end());
  for (const LoraModule& module : adapter.modules) {
    const std::string name = module.module + ".weight";
    const auto tensor =
        std::find_if(merged.tensors_.begin(), merged.tensors_.end(), [&](const auto& t) { return t.name == name; });
    if (tensor == merged.tensors_.end() || tensor->shape.rank() != 2) {
      return fail(ErrorCode::invalid_argument,
                  "merging {} into {}: the model has no linear layer '{}'; is the adapter of another model?",
                  adapter.weights.path(), source.path(), module.module);
    }
    const Shape adapted{module.b.shape[0], module.a.shape[1]};
    if (tensor->shape != adapted) {
      return fail(ErrorCode::shape,
                  "merging {} into {}: the adapter's '{}' is for a matrix {}, the model's is {}; is the adapter of "
                  "another model?",
                  adapter.weights.path(), source.path(), module.module, adapted.text(), tensor->shape.text());
    }
    tensor->codec = &kF32;
    merged.modules_[name] = &module;
  }
  return merged;
}

ReadRows MergedModel::rows() {
  return [this](const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) -> Result<void> {
    const ModelTensor* stored = source_->find(tensor.name);
    const auto found = modules_.find(tensor.name);
    if (!stored || found == modules_.end()) return source_->read(tensor, row, rows, to);
    const int64_t columns = tensor.shape.columns();
    const std::span<float> numbers(reinterpret_cast<float*>(to.data()), to.size() / sizeof(float));
    for (int64_t i = 0; i < rows; ++i) {
      const auto one = numbers.subspan(static_cast<size_t>(i * columns), static_cast<size_t>(columns));
      CHECK_OK(read_adapted(*found->second, *stored, row + i, one));
    }
    return {};
  };
}

// As PEFT merges: the sum over the rank first, then the scale, then the weight.
Result<void> MergedModel::read_adapted(const LoraModule& module, const ModelTensor& stored, int64_t row,
                                       std::span<float> to) {
  CHECK_OK(load_a(module));
  const auto columns = static_cast<int64_t>(to.size());
  bytes_.resize(static_cast<size_t>(stored.codec->bytes(columns)));
  CHECK_OK(source_->read(stored, row, 1, bytes_));
  stored.codec->decode(bytes_.data(), to.data(), columns);
  const auto b_bytes = static_cast<size_t>(module.b.codec->bytes(module.rank));
  bytes_.resize(b_bytes);
  CHECK_OK(adapter_->weights.read(module.b.offset + static_cast<uint64_t>(row) * b_bytes, bytes_));
  module.b.codec->decode(bytes_.data(), b_.data(), module.rank);
  std::fill(delta_.begin(), delta_.end(), 0.0f);
  for (int64_t r = 0; r < module.rank; ++r) {
    const float b = b_[static_cast<size_t>(r)];
    const float* const a = a_.data() + r * columns;
    for (int64_t i = 0; i < columns; ++i) delta_[static_cast<size_t>(i)] += b * a[i];
  }
  const auto scale = static_cast<float>(module.scale);
  for (int64_t i = 0; i < columns; ++i) to[static_cast<size_t>(i)] += scale * delta_[static_cast<size_t>(i)];
  return {};
}

Result<void> MergedModel::load_a(const LoraModule& module) {
  if (loaded_ == &module) return {};
  loaded_ = nullptr;
  const int64_t count = module.a.shape.count(), columns = module.a.shape[1];
  a_.resize(static_cast<size_t>(count));
  b_.resize(static_cast<size_t>(module.rank));
  delta_.resize(static_cast<size_t>(columns));
  bytes_.resize(static_cast<size_t>(module.a.codec->bytes(columns)));
  for (int64_t r = 0; r < module.rank; ++r) {
    CHECK_OK(adapter_->weights.read(module.a.offset + static_cast<uint64_t>(r) * bytes_.size(), bytes_));
    module.a.codec->decode(bytes_.data(), a_.data() + r * columns, columns);
  }
  loaded_ = &module;
  return {};
}

int64_t MergedModel::buffer_bytes() const {
  int64_t most = 0;
  for (const LoraModule& module : adapter_->modules) {
    const int64_t columns = module.a.shape[1];
    most = std::max(most, 4 * (module.rank * columns + 3 * columns + module.rank));
  }
  return most;
}

}  // namespace thimble
