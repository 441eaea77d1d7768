#include "files/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <unordered_set>

#include "files/gguf_cursor.h"

static_assert(std::endian::native == std::endian::little, "GGUF is read as little-endian memory");

namespace thimble {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr uint64_t kLongestName = 65535;                           // keys and tensors; llama.cpp has the same bound
constexpr uint64_t kLongestString = 16u << 20;                     // a value: chat templates and licences are far below
constexpr uint64_t kMostKeys = 1u << 16, kMostTensors = 1u << 18;  // real files have a hundredth
constexpr uint64_t kMostText = 64u << 20;                          // of names and values that are kept
constexpr uint64_t kLargestAlignment = 1u << 20;
constexpr int64_t kLargestCount = int64_t{1} << 50;  // elements of a tensor; keeps products within int64

constexpr std::array<std::string_view, 13> kTypeNames = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                                         "bool", "string", "array", "u64", "i64", "f64"};
constexpr std::array<uint64_t, 13> kTypeBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

uint64_t bytes_of(GgufType type) { return kTypeBytes[static_cast<uint32_t>(type)]; }

struct Header {
  uint32_t version;
  uint64_t tensors, keys;
};

Result<Header> read_header(GgufCursor& cursor) {
  const std::string& path = cursor.file().path();
  std::array<char, 4> magic{};
  CHECK_OK(cursor.bytes(std::as_writable_bytes(std::span(magic)), "the magic number"));
  if (std::string_view(magic.data(), 4) != kMagic) {
    return fail(ErrorCode::corrupt, "reading {}: expected a GGUF file, but it does not begin with 'GGUF'", path);
  }
  Header header{};
  header.version = TRY(cursor.number<uint32_t>("the version"));
  if ((header.version & 0xffffu) == 0 && header.version != 0) {
    return fail(ErrorCode::unsupported, "reading {}: the file is big-endian; convert it to little-endian first", path);
  }
  if (header.version != 2 && header.version != 3) {
    return fail(ErrorCode::unsupported, "reading {}: expected GGUF version 2 or 3, found {}", path, header.version);
  }
  header.tensors = TRY(cursor.number<uint64_t>("the number of tensors"));
  header.keys = TRY(cursor.number<uint64_t>("the number of metadata keys"));
  if (header.tensors > kMostTensors || header.keys > kMostKeys)
    return fail(ErrorCode::corrupt,
                "reading {}: the header claims {} tensors and {} metadata keys; at most {} and {} are "
                "taken",
                path, header.tensors, header.keys, kMostTensors, kMostKeys);
  // The least that one of them takes: name length, rank, type, offset; key length, type, value.
  if (header.tensors > cursor.left() / 24) {
    return fail(ErrorCode::corrupt, "reading {}: the header claims {} tensors, more than the file can hold", path,
                header.tensors);
  }
  if (header.keys > cursor.left() / 13) {
    return fail(ErrorCode::corrupt, "reading {}: the header claims {} metadata keys, more than the file can hold", path,
                header.keys);
  }
  return header;
}

Result<GgufType> read_type(GgufCursor& cursor, std::string_view key) {
  const uint32_t number = TRY(cursor.number<uint32_t>("a value's type"));
  if (number >= kTypeNames.size()) {
    return fail(ErrorCode::corrupt, "reading {}: metadata key '{}' has unknown type {}", cursor.file().path(), key,
                number);
  }
  return static_cast<GgufType>(number);
}

// Leaves the elements in the file; their extent is checked.
Result<GgufArray> read_array(GgufCursor& cursor, std::string_view key) {
  const std::string& path = cursor.file().path();
  GgufArray array;
  array.element = TRY(read_type(cursor, key));
  array.count = TRY(cursor.number<uint64_t>("an array's length"));
  array.offset = cursor.offset();
  if (array.element == GgufType::array) {
    return fail(ErrorCode::unsupported, "reading {}: metadata key '{}' is an array of arrays", path, key);
  }
  const uint64_t least = array.element == GgufType::string ? 8 : bytes_of(array.element);
  if (array.count > cursor.left() / least) {
    return fail(ErrorCode::corrupt, "reading {}: the array '{}' claims {} elements, more than the file can hold", path,
                key, array.count);
  }
  if (array.element == GgufType::string) {
    for (uint64_t i = 0; i < array.count; ++i) {
      const uint64_t length = TRY(cursor.number<uint64_t>(key));
      if (length > kLongestGgufElement) {
        return fail(ErrorCode::corrupt, "reading {}: element {} of '{}' claims {} bytes, more than {}", path, i, key,
                    length, kLongestGgufElement);
      }
      CHECK_OK(cursor.skip(length, key));
    }
  } else {
    CHECK_OK(cursor.skip(array.count * least, key));
  }
  array.bytes = cursor.offset() - array.offset;
  return array;
}

Result<void> read_value(GgufCursor& cursor, GgufValue& to) {
  switch (to.type) {
    case GgufType::u8:
      to.value = uint64_t{TRY(cursor.number<uint8_t>(to.key))};
      return {};
    case GgufType::u16:
      to.value = uint64_t{TRY(cursor.number<uint16_t>(to.key))};
      return {};
    case GgufType::u32:
      to.value = uint64_t{TRY(cursor.number<uint32_t>(to.key))};
      return {};
    case GgufType::u64:
      to.value = TRY(cursor.number<uint64_t>(to.key));
      return {};
    case GgufType::i8:
      to.value = int64_t{TRY(cursor.number<int8_t>(to.key))};
      return {};
    case GgufType::i16:
      to.value = int64_t{TRY(cursor.number<int16_t>(to.key))};
      return {};
    case GgufType::i32:
      to.value = int64_t{TRY(cursor.number<int32_t>(to.key))};
      return {};
    case GgufType::i64:
      to.value = TRY(cursor.number<int64_t>(to.key));
      return {};
    case GgufType::f32:
      to.value = double{TRY(cursor.number<float>(to.key))};
      return {};
    case GgufType::f64:
      to.value = TRY(cursor.number<double>(to.key));
      return {};
    case GgufType::boolean:
      to.value = TRY(cursor.number<uint8_t>(to.key)) != 0;
      return {};
    case GgufType::string:
      return cursor.string(to.value.emplace<std::string>(), kLongestString, to.key);
    case GgufType::array:
      to.value = TRY(read_array(cursor, to.key));
      return {};
  }
  return {};
}

Result<void> read_extents(GgufCursor& cursor, GgufTensor& tensor) {
  const std::string& path = cursor.file().path();
  const uint32_t rank = TRY(cursor.number<uint32_t>("a tensor's rank"));
  if (rank > Shape::kMaxRank) {
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' has rank {}; at most {} is possible", path, tensor.name,
                rank, Shape::kMaxRank);
  }
  std::array<int64_t, Shape::kMaxRank> extents{};
  int64_t count = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    const uint64_t extent = TRY(cursor.number<uint64_t>("a tensor's extent"));
    if (extent == 0 || extent > static_cast<uint64_t>(kLargestCount / count)) {
      return fail(ErrorCode::corrupt, "reading {}: tensor '{}' has extent {} on axis {}, which cannot be", path,
                  tensor.name, extent, i);
    }
    extents[i] = static_cast<int64_t>(extent);
    count *= extents[i];
  }
  for (uint32_t i = rank; i > 0; --i) tensor.shape.append(extents[i - 1]);
  return {};
}

Result<GgufTensor> read_tensor(GgufCursor& cursor) {
  GgufTensor tensor;
  CHECK_OK(cursor.string(tensor.name, kLongestName, "a tensor's name"));
  CHECK_OK(read_extents(cursor, tensor));
  tensor.type = TRY(cursor.number<uint32_t>("a tensor's type"));
  tensor.offset = TRY(cursor.number<uint64_t>("a tensor's offset"));
  if (const GgufTensorType* type = find_gguf_tensor_type(tensor.type)) {
    if (tensor.shape.columns() % type->block != 0) {
      return fail(ErrorCode::corrupt,
                  "reading {}: tensor '{}' of type {} has rows of {} elements, not a multiple of {}",
                  cursor.file().path(), tensor.name, type->name, tensor.shape.columns(), type->block);
    }
    tensor.bytes = static_cast<uint64_t>(tensor.shape.count() / type->block * type->block_bytes);
  }
  return tensor;
}

// Refuses text beyond what a reader keeps of one file.
Result<void> count_text(uint64_t& kept, size_t bytes, const std::string& path) {
  if ((kept += bytes) <= kMostText) return {};
  return fail(ErrorCode::corrupt, "reading {}: its names and texts have more than {} bytes", path, kMostText);
}

template <class Items, class Name>
Result<void> check_unique(const Items& items, Name name, std::string_view what, const std::string& path) {
  std::unordered_set<std::string_view> seen;
  for (const auto& item : items) {
    if (!seen.insert(name(item)).second) {
      return fail(ErrorCode::corrupt, "reading {}: {} '{}' is there twice", path, what, name(item));
    }
  }
  return {};
}

}  // namespace

std::string_view name(GgufType type) { return kTypeNames[static_cast<uint32_t>(type)]; }

bool GgufFile::recognises(const std::string& path) {
  const auto file = InputFile::open(path);
  std::array<char, 4> magic{};
  return file && file->read(0, std::as_writable_bytes(std::span(magic))) &&
         std::string_view(magic.data(), magic.size()) == kMagic;
}

Result<GgufFile> GgufFile::open(const std::string& path) {
  GgufFile gguf = TRY(open_one(path));
  CHECK_OK(gguf.open_parts());
  return gguf;
}

// llama.cpp's gguf-split: "<name>-00001-of-00003.gguf", metadata in the first.
Result<void> GgufFile::open_parts() {
  const int64_t count = TRY(get_or<int64_t>("split.count", 1)), number = TRY(get_or<int64_t>("split.no", 0));
  if (count <= 1) return {};
  constexpr int64_t kMostParts = 10'000;
  if (count > kMostParts || number < 0 || number >= count)
    return fail(ErrorCode::corrupt, "reading {}: it says to be part {} of {}", path(), number + 1, count);
  const std::string ending = fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
  if (number != 0 || !path().ends_with(ending))
    return fail(ErrorCode::invalid_argument,
                "reading {}: it is part {} of a model that is split into {} files; give the first, under its own name "
                "(NAME-00001-of-{:05}.gguf) with the others beside it",
                path(), number + 1, count, count);
  const std::string name = path().substr(0, path().size() - ending.size());
  for (int64_t part = 1; part < count; ++part) {
    const std::string other = fmt::format("{}-{:05}-of-{:05}.gguf", name, part + 1, count);
    if (!is_file(other))
      return fail(ErrorCode::invalid_argument, "reading {}: the model is split into {} files, of which {} is missing",
                  path(), count, other);
    GgufFile opened = TRY(open_one(other));
    if (TRY(opened.get_or<int64_t>("split.count", 1)) != count || TRY(opened.get_or<int64_t>("split.no", -1)) != part)
      return fail(ErrorCode::corrupt, "reading {}: it is not part {} of {}, as its name says", other, part + 1, count);
    for (GgufTensor& tensor : opened.tensors_) {
      tensor.part = static_cast<size_t>(part);
      tensors_.push_back(std::move(tensor));
    }
    parts_.push_back(std::move(opened.file_));
  }
  return check_unique(
      tensors_, [](const GgufTensor& t) -> std::string_view { return t.name; }, "tensor", path());
}

Result<GgufFile> GgufFile::open_one(const std::string& path) {
  GgufFile gguf(TRY(InputFile::open(path)));
  GgufCursor cursor(gguf.file_, 0);
  const Header header = TRY(read_header(cursor));
  gguf.version_ = header.version;
  uint64_t kept = 0;
  for (uint64_t i = 0; i < header.keys; ++i) {
    GgufValue value;
    CHECK_OK(cursor.string(value.key, kLongestName, "a metadata key"));
    value.type = TRY(read_type(cursor, value.key));
    value.offset = cursor.offset();
    CHECK_OK(read_value(cursor, value));
    value.bytes = cursor.offset() - value.offset;
    const std::string* const text = std::get_if<std::string>(&value.value);
    CHECK_OK(count_text(kept, value.key.size() + (text ? text->size() : 0), path));
    gguf.values_.push_back(std::move(value));
  }
  for (uint64_t i = 0; i < header.tensors; ++i) {
    gguf.tensors_.push_back(TRY(read_tensor(cursor)));
    CHECK_OK(count_text(kept, gguf.tensors_.back().name.size(), path));
  }
  CHECK_OK(check_unique(
      gguf.values_, [](const GgufValue& v) -> std::string_view { return v.key; }, "metadata key", path));
  CHECK_OK(check_unique(
      gguf.tensors_, [](const GgufTensor& t) -> std::string_view { return t.name; }, "tensor", path));

  gguf.alignment_ = static_cast<uint64_t>(TRY(gguf.get_or<int64_t>("general.alignment", 32)));
  if (!std::has_single_bit(gguf.alignment_) || gguf.alignment_ > kLargestAlignment) {
    return fail(ErrorCode::corrupt, "reading {}: general.alignment is {}; expected a power of two up to {}", path,
                static_cast<int64_t>(gguf.alignment_), kLargestAlignment);
  }
  const uint64_t data = (cursor.offset() + gguf.alignment_ - 1) / gguf.alignment_ * gguf.alignment_;
  for (GgufTensor& tensor : gguf.tensors_) {
    if (tensor.offset % gguf.alignment_ != 0 || tensor.offset > gguf.file_.size()) {
      return fail(ErrorCode::corrupt,
                  "reading {}: tensor '{}' is at data offset {}, which is outside or not aligned to {}", path,
                  tensor.name, tensor.offset, gguf.alignment_);
    }
    tensor.offset += data;
  }
  CHECK_OK(gguf.check_layout());
  return gguf;
}

// Every tensor within the file, none over another.
Result<void> GgufFile::check_layout() {
  std::vector<const GgufTensor*> order;
  for (const GgufTensor& tensor : tensors_) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
  uint64_t end = 0;
  const GgufTensor* last = nullptr;
  for (const GgufTensor* tensor : order) {
    if (tensor->offset > file_.size() || tensor->bytes > file_.size() - tensor->offset) {
      return fail(ErrorCode::corrupt,
                  "reading {}: tensor '{}' of {} bytes at offset {} ends beyond the file's {} bytes; is the download "
                  "complete?",
                  path(), tensor->name, tensor->bytes, tensor->offset, file_.size());
    }
    if (last && tensor->offset < end) {
      return fail(ErrorCode::corrupt, "reading {}: tensors '{}' and '{}' overlap", path(), last->name, tensor->name);
    }
    end = tensor->offset + tensor->bytes;
    last = tensor;
  }
  return {};
}

}  // namespace thimble
