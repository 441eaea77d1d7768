#include "run/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "codecs/interleaved.h"
#include "core/random.h"
#include "kernels/draw.h"

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

// The same into interleaved groups, through memory for one of them. The first row is that of a group.
Result<void> read_interleaved(const ModelSource& source, const ModelTensor& tensor, const Codec& codec, int64_t first,
                              int64_t rows, std::byte* to, std::span<std::byte> spare) {
  const int64_t columns = tensor.shape.columns();
  const int64_t group = kInterleavedRows * codec.bytes(columns);
  if (group > static_cast<int64_t>(spare.size()))
    return fail(ErrorCode::over_budget, "{}: {} rows of '{}' ({} bytes) do not fit the staging memory", source.path(),
                kInterleavedRows, tensor.name, group);
  CHECK_OK(read_rows(source, tensor, first, rows, to));
  for (int64_t row = 0; row + kInterleavedRows <= rows; row += kInterleavedRows, to += group) {
    std::memcpy(spare.data(), to, static_cast<size_t>(group));
    interleave_rows(*codec.rows_of, spare.data(), codec.bytes(columns), columns, to);
  }
  return {};
}

// Of a value of this name, or of the one that it begins like.
Random random_of(const Initial& initial, uint64_t seed, const std::string& name) {
  const bool like_another = initial.kind != Initial::Kind::table && !initial.content.empty();
  return Random(seed, like_another ? initial.content : name);
}

void make_numbers(const Initial& initial, const Random& random, int64_t first, int64_t count, float* to) {
  const auto element = [&](int64_t i) { return static_cast<uint64_t>(first + i); };
  switch (initial.kind) {
    case Initial::Kind::none:
      return;
    case Initial::Kind::constant:
      return std::fill_n(to, count, initial.number), void();
    case Initial::Kind::uniform:
      for (int64_t i = 0; i < count; ++i) to[i] = (2 * random.uniform(element(i)) - 1) * initial.number;
      return;
    case Initial::Kind::normal:
      draw_normal(random, element(0), count, to);
      for (int64_t i = 0; i < count; ++i) to[i] *= initial.number;
      return;
    case Initial::Kind::table:
      return (*initial.fill)(first, count, to);
  }
}

}  // namespace

Result<void> load_weights(const ModelSource& source, Values& values, Loaded& loaded, const std::string& scope) {
  for (const ModelTensor& tensor : source.tensors()) {
    const Layout::Entry* const entry = values.layout().find(scope + tensor.name);
    if (!entry) continue;
    if (!(entry->type.shape == tensor.shape))
      return fail(ErrorCode::corrupt, "{}: '{}' is {}, the architecture says {}", source.path(), tensor.name,
                  tensor.shape.text(), entry->type.shape.text());
    loaded.insert(scope + tensor.name);
    const int64_t columns = tensor.shape.columns();
    const Codec& codec = *entry->type.codec;
    const int64_t unit = codec.rows_of ? kInterleavedRows * columns : columns;
    CHECK_OK(values.fill(*entry, unit, [&](int64_t first, int64_t count, std::byte* to, std::span<std::byte> spare) {
      if (codec.rows_of) return read_interleaved(source, tensor, codec, first / columns, count / columns, to, spare);
      if (&codec == tensor.codec) return read_rows(source, tensor, first / columns, count / columns, to);
      return convert_rows(source, tensor, codec, first / columns, count / columns, to, spare);
    }));
  }
  return {};
}

Result<void> load_adapters(std::span<const Adapter> adapters, std::span<const AdapterTensor> tensors, Values& values,
                           Loaded& loaded) {
  for (const AdapterTensor& tensor : tensors) {
    const Layout::Entry* const entry = values.layout().find(tensor.value);
    if (!entry) continue;  // of a program that has no use for it
    const Adapter& adapter = adapter_of(adapters, tensor);
    const SafetensorsEntry* const stored = TRY(find_entry(adapter, tensor));
    if (!stored) continue;
    loaded.insert(tensor.value);
    CHECK_OK(values.fill(*entry, 1, [&](int64_t first, int64_t count, std::byte* to, auto) {
      const std::span numbers(reinterpret_cast<float*>(to), static_cast<size_t>(count));
      return read_elements(adapter, *stored, tensor, entry->type.shape, first, numbers);
    }));
  }
  return {};
}

void begin_value(const Layout::Entry& entry, const std::string& name, float* to) {
  make_numbers(entry.initial, random_of(entry.initial, 0, name), 0, entry.type.shape.count(), to);
  if (entry.type.codec == &kI32) kI32.encode(to, reinterpret_cast<std::byte*>(to), entry.type.shape.count());
}

Result<void> initialise(Values& values, const Loaded& loaded, uint64_t seed) {
  for (const auto& [name, entry] : values.layout().entries()) {
    if (entry.initial.kind == Initial::Kind::none || loaded.contains(name)) continue;
    const Codec& codec = *entry.type.codec;
    const Random random = random_of(entry.initial, seed, name);
    constexpr int64_t kSome = 4096;  // elements, whole blocks of every codec
    std::array<float, kSome> numbers;
    const Initial& initial = entry.initial;
    CHECK_OK(values.fill(entry, codec.block, [&](int64_t first, int64_t count, std::byte* to, auto) -> Result<void> {
      for (int64_t i = 0; i < count; i += kSome) {
        const int64_t some = std::min(kSome, count - i);
        make_numbers(initial, random, first + i, some, numbers.data());
        codec.encode(numbers.data(), to + codec.bytes(i), some);
      }
      return {};
    }));
  }
  return {};
}

}  // namespace thimble
