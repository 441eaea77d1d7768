#include "run/weights.h"

#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "models/build.h"

namespace thimble {
namespace {

// Reads a tensor that is stored in another codec than the plan wants, as many rows at a time as staging holds.
Result<void> convert_tensor(const ModelSource& source, const ModelTensor& tensor, const Layout::Entry& entry,
                            std::byte* to, std::span<std::byte> staging) {
  const int64_t rows = tensor.shape.rows(), columns = tensor.shape.columns();
  const int64_t stored = tensor.codec->bytes(columns), wanted = entry.type.codec->bytes(columns),
                floats = (columns * 4 + 63) / 64 * 64;
  const int64_t room = (static_cast<int64_t>(staging.size()) - floats) / stored;
  if (room < 1)
    return fail(ErrorCode::over_budget, "{}: a row of '{}' ({} bytes) does not fit the staging memory", source.path(),
                tensor.name, stored + floats);
  float* const values = reinterpret_cast<float*>(staging.data());
  std::byte* const encoded = staging.data() + floats;
  const int64_t step = std::min(room, std::max<int64_t>(1, (1 << 20) / stored));
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    CHECK_OK(source.read(tensor, row, count, {encoded, static_cast<size_t>(count * stored)}));
    for (int64_t r = 0; r < count; ++r) {
      tensor.codec->decode(encoded + r * stored, values, columns);
      entry.type.codec->encode(values, to + (row + r) * wanted, columns);
    }
  }
  return {};
}

}  // namespace

Result<void> load_weights(const ModelSource& source, const Layout& layout, std::byte* base,
                          std::span<std::byte> staging) {
  for (const ModelTensor& tensor : source.tensors()) {
    const Layout::Entry* const entry = layout.find(tensor.name);
    if (!entry) continue;
    if (!(entry->type.shape == tensor.shape))
      return fail(ErrorCode::corrupt, "{}: '{}' is {}, the architecture says {}", source.path(), tensor.name,
                  tensor.shape.text(), entry->type.shape.text());
    std::byte* const to = base + entry->offset;
    if (entry->type.codec != tensor.codec) {
      CHECK_OK(convert_tensor(source, tensor, *entry, to, staging));
      continue;
    }
    const int64_t rows = tensor.shape.rows(), row_bytes = tensor.codec->bytes(tensor.shape.columns());
    const int64_t step = std::max<int64_t>(1, (4 << 20) / row_bytes);
    for (int64_t row = 0; row < rows; row += step) {
      const int64_t count = std::min(step, rows - row);
      CHECK_OK(source.read(tensor, row, count, {to + row * row_bytes, static_cast<size_t>(count * row_bytes)}));
    }
  }
  return {};
}

void initialise_adapter(const Layout& layout, std::byte* base, uint64_t seed) {
  for (const auto& [name, entry] : layout.entries()) {
    float* const to = reinterpret_cast<float*>(base + entry.offset);
    const int64_t count = entry.type.shape.count();
    if (name.ends_with(".lora_B.weight") && entry.role == Role::parameter) std::fill(to, to + count, 0.0f);
    if (!name.ends_with(".lora_A.weight") || entry.role != Role::parameter) continue;
    const Random random(seed, name);
    const float bound = 1 / std::sqrt(static_cast<float>(entry.type.shape[1]));
    for (int64_t i = 0; i < count; ++i) to[i] = (2 * random.uniform(static_cast<uint64_t>(i)) - 1) * bound;
  }
}

void initialise_weights(const Architecture& architecture, const Layout& layout, std::byte* base, uint64_t seed) {
  const float residual = 1 / std::sqrt(2 * static_cast<float>(architecture.layers));
  for (const TensorSpec& weight : tensor_specs(architecture)) {
    const Layout::Entry* const entry = layout.find(weight.name);
    if (!entry) continue;
    float* const to = reinterpret_cast<float*>(base + entry->offset);
    const int64_t count = weight.shape.count();
    const bool bias = weight.name.ends_with(".bias");
    if (weight.shape.rank() == 1) {
      std::fill(to, to + count, bias ? 0.0f : 1.0f);
      continue;
    }
    const bool into_residual =
        weight.name.find("o_proj") != std::string::npos || weight.name.find("down_proj") != std::string::npos;
    const Random random(seed, weight.name);
    const float deviation = 0.02f * (into_residual ? residual : 1);
    for (int64_t i = 0; i < count; ++i) to[i] = deviation * random.normal(static_cast<uint64_t>(i));
  }
}

Result<void> load_adapter(const LoraAdapter& adapter, const Layout& layout, std::byte* base,
                          std::span<std::byte> staging) {
  for (const LoraModule& module : adapter.modules)
    for (const auto& [part, tensor] : {std::pair{"lora_A", &module.a}, std::pair{"lora_B", &module.b}}) {
      const std::string name = fmt::format("{}.{}.weight", module.module, part);
      const Layout::Entry* const entry = layout.find(name);
      if (!entry)
        return fail(ErrorCode::invalid_argument, "{}: the model has no linear layer '{}'", adapter.weights.path(),
                    module.module);
      if (!(entry->type.shape == tensor->shape))
        return fail(ErrorCode::shape, "{}: '{}' is {}, this model needs {}", adapter.weights.path(), name,
                    tensor->shape.text(), entry->type.shape.text());
      std::byte* const to = base + entry->offset;
      if (tensor->codec == &kF32) {
        CHECK_OK(adapter.weights.read(tensor->offset, {to, static_cast<size_t>(entry->type.bytes())}));
        continue;
      }
      const auto bytes = static_cast<size_t>(tensor->codec->bytes(tensor->shape.count()));
      if (bytes > staging.size())
        return fail(ErrorCode::over_budget, "{}: '{}' does not fit the staging memory", adapter.weights.path(), name);
      CHECK_OK(adapter.weights.read(tensor->offset, staging.first(bytes)));
      tensor->codec->decode(staging.data(), reinterpret_cast<float*>(to), tensor->shape.count());
    }
  return {};
}

void fill_constants(const Architecture& architecture, const Layout& layout, std::byte* base) {
  if (const Layout::Entry* const table = layout.find(kRopeTable))
    fill_rope_table(architecture, table->type.shape[0], reinterpret_cast<float*>(base + table->offset));
}

void decode_value(const Layout::Entry& entry, const std::byte* base, int64_t first, int64_t count, float* to) {
  const Codec& codec = *entry.type.codec;
  codec.decode(base + entry.offset + first / codec.block * codec.block_bytes, to, count);
}

}  // namespace thimble
