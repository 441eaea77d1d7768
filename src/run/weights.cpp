#include "run/weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "codecs/interleaved.h"
#include "core/random.h"
#include "models/build.h"

namespace thimble {
namespace {

// Reads rows that are stored in another codec than the plan wants, as many at a time as there is memory for.
Result<void> convert_rows(const ModelSource& source, const ModelTensor& tensor, const Codec& codec, int64_t first,
                          int64_t rows, std::byte* to, std::span<std::byte> spare) {
  const int64_t columns = tensor.shape.columns();
  const int64_t stored = tensor.codec->bytes(columns), wanted = codec.bytes(columns),
                floats = (columns * 4 + 63) / 64 * 64;
  const int64_t room = (static_cast<int64_t>(spare.size()) - floats) / stored;
  if (room < 1)
    return fail(ErrorCode::over_budget, "{}: a row of '{}' ({} bytes) does not fit the staging memory", source.path(),
                tensor.name, stored + floats);
  float* const values = reinterpret_cast<float*>(spare.data());
  std::byte* const encoded = spare.data() + floats;
  const int64_t step = std::min(room, std::max<int64_t>(1, (1 << 20) / stored));
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    CHECK_OK(source.read(tensor, first + row, count, {encoded, static_cast<size_t>(count * stored)}));
    for (int64_t r = 0; r < count; ++r) {
      tensor.codec->decode(encoded + r * stored, values, columns);
      codec.encode(values, to + (row + r) * wanted, columns);
    }
  }
  return {};
}

Result<void> read_rows(const ModelSource& source, const ModelTensor& tensor, int64_t first, int64_t rows,
                       std::byte* to) {
  const int64_t row_bytes = tensor.codec->bytes(tensor.shape.columns());
  const int64_t step = std::max<int64_t>(1, (4 << 20) / row_bytes);
  for (int64_t row = 0; row < rows; row += step) {
    const int64_t count = std::min(step, rows - row);
    CHECK_OK(source.read(tensor, first + row, count, {to + row * row_bytes, static_cast<size_t>(count * row_bytes)}));
  }
  return {};
}

// The same into interleaved groups, through memory for one of them.
Result<void> read_interleaved(const ModelSource& source, const ModelTensor& tensor, const Codec& codec, std::byte* to,
                              std::span<std::byte> spare) {
  const int64_t columns = tensor.shape.columns(), rows = tensor.shape.rows();
  const int64_t group = kInterleavedRows * codec.bytes(columns);
  if (group > static_cast<int64_t>(spare.size()))
    return fail(ErrorCode::over_budget, "{}: {} rows of '{}' ({} bytes) do not fit the staging memory", source.path(),
                kInterleavedRows, tensor.name, group);
  CHECK_OK(read_rows(source, tensor, 0, rows, to));
  for (int64_t row = 0; row + kInterleavedRows <= rows; row += kInterleavedRows, to += group) {
    std::memcpy(spare.data(), to, static_cast<size_t>(group));
    interleave_rows(*codec.rows_of, spare.data(), codec.bytes(columns), columns, to);
  }
  return {};
}

// Fills an f32 value element by element.
template <class Number>
Result<void> generate(Values& values, const Layout::Entry& entry, Number number) {
  return values.fill(entry, 1, [&](int64_t first, int64_t count, std::byte* to, auto) -> Result<void> {
    for (int64_t i = 0; i < count; ++i) reinterpret_cast<float*>(to)[i] = number(static_cast<uint64_t>(first + i));
    return {};
  });
}

}  // namespace

Result<void> load_weights(const ModelSource& source, Values& values) {
  for (const ModelTensor& tensor : source.tensors()) {
    const Layout::Entry* const entry = values.layout().find(tensor.name);
    if (!entry) continue;
    if (!(entry->type.shape == tensor.shape))
      return fail(ErrorCode::corrupt, "{}: '{}' is {}, the architecture says {}", source.path(), tensor.name,
                  tensor.shape.text(), entry->type.shape.text());
    const int64_t columns = tensor.shape.columns();
    CHECK_OK(values.fill(*entry, columns, [&](int64_t first, int64_t count, std::byte* to, std::span<std::byte> spare) {
      if (entry->type.codec->rows_of) return read_interleaved(source, tensor, *entry->type.codec, to, spare);
      if (entry->type.codec == tensor.codec) return read_rows(source, tensor, first / columns, count / columns, to);
      return convert_rows(source, tensor, *entry->type.codec, first / columns, count / columns, to, spare);
    }));
  }
  return {};
}

Result<void> initialise_adapter(Values& values, uint64_t seed) {
  for (const auto& [name, entry] : values.layout().entries()) {
    if (entry.role != Role::parameter) continue;
    if (name.ends_with(".lora_B.weight")) CHECK_OK(generate(values, entry, [](uint64_t) { return 0.0f; }));
    if (!name.ends_with(".lora_A.weight")) continue;
    const Random random(seed, name);
    const float bound = 1 / std::sqrt(static_cast<float>(entry.type.shape[1]));
    CHECK_OK(generate(values, entry, [&](uint64_t i) { return (2 * random.uniform(i) - 1) * bound; }));
  }
  return {};
}

Result<void> initialise_weights(const Architecture& architecture, Values& values, uint64_t seed) {
  const float residual = 1 / std::sqrt(2 * static_cast<float>(architecture.layers));
  for (const TensorSpec& weight : tensor_specs(architecture)) {
    const Layout::Entry* const entry = values.layout().find(weight.name);
    if (!entry) continue;
    if (weight.shape.rank() == 1) {
      const float value = weight.name.ends_with(".bias") ? 0.0f : 1.0f;
      CHECK_OK(generate(values, *entry, [&](uint64_t) { return value; }));
      continue;
    }
    const bool into_residual =
        weight.name.find("o_proj") != std::string::npos || weight.name.find("down_proj") != std::string::npos;
    const Random random(seed, weight.name);
    const float deviation = 0.02f * (into_residual ? residual : 1);
    CHECK_OK(generate(values, *entry, [&](uint64_t i) { return deviation * random.normal(i); }));
  }
  return {};
}

Result<void> load_adapter(const LoraAdapter& adapter, Values& values) {
  for (const LoraModule& module : adapter.modules)
    for (const auto& [part, tensor] : {std::pair{"lora_A", &module.a}, std::pair{"lora_B", &module.b}}) {
      const std::string name = fmt::format("{}.{}.weight", module.module, part);
      const Layout::Entry* const entry = values.layout().find(name);
      if (!entry)
        return fail(ErrorCode::invalid_argument, "{}: the model has no linear layer '{}'", adapter.weights.path(),
                    module.module);
      if (!(entry->type.shape == tensor->shape))
        return fail(ErrorCode::shape, "{}: '{}' is {}, this model needs {}", adapter.weights.path(), name,
                    tensor->shape.text(), entry->type.shape.text());
      const Codec& stored = *tensor->codec;
      CHECK_OK(values.fill(
          *entry, 1, [&](int64_t first, int64_t count, std::byte* to, std::span<std::byte> spare) -> Result<void> {
            const auto bytes = static_cast<size_t>(stored.bytes(count));
            const uint64_t at = tensor->offset + static_cast<uint64_t>(stored.bytes(first));
            if (&stored == &kF32) return adapter.weights.read(at, {to, bytes});
            if (bytes > spare.size())
              return fail(ErrorCode::over_budget, "{}: '{}' does not fit the staging memory", adapter.weights.path(),
                          name);
            CHECK_OK(adapter.weights.read(at, spare.first(bytes)));
            stored.decode(spare.data(), reinterpret_cast<float*>(to), count);
            return {};
          }));
    }
  return {};
}

Result<void> initialise_states(const std::vector<TrainedParameter>& parameters, Values& values) {
  for (const TrainedParameter& parameter : parameters)
    for (const auto& [name, state] : parameter.states) {
      const Layout::Entry& entry = *values.layout().find(name);
      const Codec& codec = *entry.type.codec;
      const int64_t some = (4096 + codec.block - 1) / codec.block * codec.block;
      const std::vector<float> initial(static_cast<size_t>(some), static_cast<float>(state.initial));
      CHECK_OK(values.fill(entry, codec.block, [&](int64_t, int64_t count, std::byte* to, auto) -> Result<void> {
        for (int64_t i = 0; i < count; i += some)
          codec.encode(initial.data(), to + codec.bytes(i), std::min(some, count - i));
        return {};
      }));
    }
  return {};
}

void fill_constants(const Architecture& architecture, const Values& values) {
  if (const Layout::Entry* const table = values.layout().find(kRopeTable))
    fill_rope_table(architecture, table->type.shape[0], reinterpret_cast<float*>(values.memory(*table)));
}

}  // namespace thimble
