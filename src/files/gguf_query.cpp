// Questions to an open GGUF file: typed metadata, and arrays streamed from the file.
#include <algorithm>
#include <limits>
#include <utility>

#include "files/gguf.h"
#include "files/gguf_cursor.h"

namespace thimble {
namespace {

template <class T>
constexpr std::string_view kKind = "";
template <>
constexpr std::string_view kKind<bool> = "true or false";
template <>
constexpr std::string_view kKind<int64_t> = "an integer";
template <>
constexpr std::string_view kKind<double> = "a number";
template <>
constexpr std::string_view kKind<std::string> = "a string";
template <>
constexpr std::string_view kKind<GgufArray> = "an array";

template <class T>
std::optional<T> convert(const GgufValue& value) {
  if (const T* same = std::get_if<T>(&value.value)) return *same;
  if constexpr (std::is_same_v<T, int64_t>) {
    const uint64_t* number = std::get_if<uint64_t>(&value.value);
    if (number && *number <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return static_cast<int64_t>(*number);
    }
  }
  if constexpr (std::is_same_v<T, double>) {
    if (const uint64_t* number = std::get_if<uint64_t>(&value.value)) return static_cast<double>(*number);
    if (const int64_t* number = std::get_if<int64_t>(&value.value)) return static_cast<double>(*number);
  }
  return std::nullopt;
}

}  // namespace

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(), [&](const auto& t) { return t.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

const GgufValue* GgufFile::find_value(std::string_view key) const {
  const auto found = std::find_if(values_.begin(), values_.end(), [&](const auto& v) { return v.key == key; });
  return found == values_.end() ? nullptr : &*found;
}

template <class T>
Result<std::optional<T>> GgufFile::find(std::string_view key) const {
  const GgufValue* value = find_value(key);
  if (!value) return std::optional<T>();
  std::optional<T> converted = convert<T>(*value);
  if (!converted) {
    return fail(ErrorCode::corrupt, "reading {}: metadata key '{}' should be {}, found {}", path(), key, kKind<T>,
                thimble::name(value->type));
  }
  return converted;
}

template Result<std::optional<bool>> GgufFile::find(std::string_view) const;
template Result<std::optional<int64_t>> GgufFile::find(std::string_view) const;
template Result<std::optional<double>> GgufFile::find(std::string_view) const;
template Result<std::optional<std::string>> GgufFile::find(std::string_view) const;
template Result<std::optional<GgufArray>> GgufFile::find(std::string_view) const;

Result<void> GgufFile::for_each_string(std::string_view key,
                                       const std::function<Result<void>(std::string_view)>& visit) const {
  const GgufArray array = TRY(get<GgufArray>(key));
  if (array.element != GgufType::string) {
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be an array of strings, found one of {}", path(), key,
                thimble::name(array.element));
  }
  GgufCursor cursor(file_, array.offset);
  std::string text;
  for (uint64_t i = 0; i < array.count; ++i) {
    CHECK_OK(cursor.string(text, kLongestGgufElement, key));
    CHECK_OK(visit(text));
  }
  return {};
}

namespace {

// Every element of a numeric array, widened; `visit` gets them in order.
template <class T, class Visit>
Result<void> visit_elements(GgufCursor& cursor, uint64_t count, std::string_view key, Visit visit) {
  for (uint64_t i = 0; i < count; ++i) CHECK_OK(visit(TRY(cursor.number<T>(key))));
  return {};
}

constexpr uint64_t kMostNumbers = 1u << 22;  // no vocabulary is near; they are kept wider than they are stored

template <class Visit>
Result<void> visit_numbers(const GgufFile& gguf, const GgufArray& array, std::string_view key, Visit visit) {
  if (array.count > kMostNumbers)
    return fail(ErrorCode::corrupt, "reading {}: '{}' has {} elements; at most {} are taken", gguf.path(), key,
                array.count, kMostNumbers);
  GgufCursor cursor(gguf.file(), array.offset);
  switch (array.element) {
    case GgufType::u8:
    case GgufType::boolean:
      return visit_elements<uint8_t>(cursor, array.count, key, visit);
    case GgufType::i8:
      return visit_elements<int8_t>(cursor, array.count, key, visit);
    case GgufType::u16:
      return visit_elements<uint16_t>(cursor, array.count, key, visit);
    case GgufType::i16:
      return visit_elements<int16_t>(cursor, array.count, key, visit);
    case GgufType::u32:
      return visit_elements<uint32_t>(cursor, array.count, key, visit);
    case GgufType::i32:
      return visit_elements<int32_t>(cursor, array.count, key, visit);
    case GgufType::u64:
      return visit_elements<uint64_t>(cursor, array.count, key, visit);
    case GgufType::i64:
      return visit_elements<int64_t>(cursor, array.count, key, visit);
    case GgufType::f32:
      return visit_elements<float>(cursor, array.count, key, visit);
    case GgufType::f64:
      return visit_elements<double>(cursor, array.count, key, visit);
    default:
      return fail(ErrorCode::corrupt, "reading {}: '{}' should be an array of numbers, found one of {}", gguf.path(),
                  key, name(array.element));
  }
}

}  // namespace

Result<std::vector<int32_t>> GgufFile::integers(std::string_view key) const {
  const GgufArray array = TRY(get<GgufArray>(key));
  std::vector<int32_t> numbers;
  CHECK_OK(visit_numbers(*this, array, key, [&](auto number) -> Result<void> {
    if constexpr (std::is_integral_v<decltype(number)>) {
      if (std::in_range<int32_t>(number)) return numbers.push_back(static_cast<int32_t>(number)), Result<void>();
    }
    return fail(ErrorCode::corrupt, "reading {}: element {} of '{}' should be an integer of 32 bits, found {}", path(),
                numbers.size(), key, number);
  }));
  return numbers;
}

Result<std::vector<float>> GgufFile::floats(std::string_view key) const {
  const GgufArray array = TRY(get<GgufArray>(key));
  std::vector<float> numbers;
  CHECK_OK(visit_numbers(*this, array, key, [&](auto number) -> Result<void> {
    numbers.push_back(static_cast<float>(number));
    return {};
  }));
  return numbers;
}

}  // namespace thimble
