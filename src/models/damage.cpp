#include "models/damage.h"

#include <algorithm>
#include <cmath>

#include "codecs/pattern.h"
#include "kernels/rows.h"

namespace thimble {
namespace {

std::string damage(const ModelTensor& tensor, int64_t row, std::span<const float> numbers) {
  const auto bad = std::ranges::find_if(numbers, [](float x) { return !std::isfinite(x); });
  return fmt::format("tensor '{}', row {}, element {} is {}", tensor.name, row, bad - numbers.begin(), *bad);
}

bool finite(std::span<const float> numbers) { return all_finite(numbers.data(), static_cast<int64_t>(numbers.size())); }

// More numbers than a pattern has room for would be lost without a word.
Result<void> check_pattern(const ModelTensor& tensor, int64_t row, std::span<const float> numbers, const Pattern& p) {
  for (size_t first = 0; first < numbers.size(); first += static_cast<size_t>(p.of)) {
    const auto group = numbers.subspan(first, std::min(static_cast<size_t>(p.of), numbers.size() - first));
    const auto count = std::ranges::count_if(group, [](float x) { return x != 0; });
    if (count > p.keep)
      return fail(ErrorCode::unsupported,
                  "tensor '{}', row {}: {} of the {} numbers from element {} on are not zero, codec {} holds {}; make "
                  "the model {}:{} first (thimble prune --pattern {}:{}), or choose {}",
                  tensor.name, row, count, group.size(), first, p.codec->name, p.keep, p.keep, p.of, p.keep, p.of,
                  p.dense->name);
  }
  return {};
}

}  // namespace

Result<void> check_finite(const ModelTensor& tensor, int64_t row, std::span<const float> numbers) {
  if (finite(numbers)) return {};
  return fail(ErrorCode::corrupt, "{}, not finite: the model, or the adapter merged into it, is damaged",
              damage(tensor, row, numbers));
}

Result<void> check_fits(const ModelTensor& tensor, int64_t row, std::span<const float> numbers, const Codec& codec,
                        const std::byte* encoded, std::span<float> scratch) {
  if (const Pattern* const pattern = pattern_of(codec)) CHECK_OK(check_pattern(tensor, row, numbers, *pattern));
  codec.decode(encoded, scratch.data(), static_cast<int64_t>(numbers.size()));
  if (finite(scratch.first(numbers.size()))) return {};
  const auto largest = std::ranges::max_element(numbers, {}, [](float x) { return std::abs(x); });
  return fail(ErrorCode::unsupported,
              "tensor '{}', row {}, element {} is {}, which does not fit codec {}{}; choose bf16 or f32", tensor.name,
              row, largest - numbers.begin(), *largest, codec.name,
              codec.block > 1 ? " (the scale of a block would be infinite)" : "");
}

Result<std::optional<std::string>> find_damage(const ModelSource& source) {
  std::vector<std::byte> stored;
  std::vector<float> numbers;
  for (const ModelTensor& tensor : source.tensors()) {
    const int64_t columns = tensor.shape.columns();
    stored.resize(static_cast<size_t>(tensor.codec->bytes(columns)));
    numbers.resize(static_cast<size_t>(columns));
    for (int64_t row = 0; row < tensor.shape.rows(); ++row) {
      CHECK_OK(source.read(tensor, row, 1, stored));
      tensor.codec->decode(stored.data(), numbers.data(), columns);
      if (!finite(numbers)) return damage(tensor, row, numbers);
    }
  }
  return std::nullopt;
}

}  // namespace thimble
