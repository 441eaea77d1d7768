#include "files/safetensors.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "files/safetensors_header.h"

static_assert(std::endian::native == std::endian::little, "safetensors data is read as little-endian memory");

namespace thimble {
namespace {

constexpr uint64_t kLongestHeader = 32u << 20;  // of some 200,000 tensors; the reference implementation takes 100 MB

struct Dtype {
  std::string_view name;
  uint64_t bytes;
};
constexpr auto kDtypes = std::to_array<Dtype>({{"F64", 8},
                                               {"F32", 4},
                                               {"F16", 2},
                                               {"BF16", 2},
                                               {"F8_E4M3", 1},
                                               {"F8_E5M2", 1},
                                               {"F8_E8M0", 1},
                                               {"I64", 8},
                                               {"I32", 4},
                                               {"I16", 2},
                                               {"I8", 1},
                                               {"U64", 8},
                                               {"U32", 4},
                                               {"U16", 2},
                                               {"U8", 1},
                                               {"BOOL", 1},
                                               {"C64", 8}});

// Bytes of a shape, or nothing when the product overflows.
std::optional<uint64_t> bytes_of(const Shape& shape, uint64_t element) {
  int64_t bytes = static_cast<int64_t>(element);
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (__builtin_mul_overflow(bytes, shape[axis], &bytes)) return std::nullopt;
  }
  return static_cast<uint64_t>(bytes);
}

Result<SafetensorsEntry> check_entry(SafetensorsHeader::Tensor&& tensor, uint64_t data, uint64_t data_bytes,
                                     const std::string& path) {
  const auto element = safetensors_element_bytes(tensor.dtype);
  if (!element) {
    return fail(ErrorCode::unsupported, "reading {}: tensor '{}' has dtype '{}', which thimble does not know", path,
                tensor.name, tensor.dtype);
  }
  if (tensor.begin > tensor.end || tensor.end > data_bytes) {
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' has data_offsets [{}, {}], outside the {} bytes of data",
                path, tensor.name, tensor.begin, tensor.end, data_bytes);
  }
  const auto bytes = bytes_of(tensor.shape, *element);
  if (!bytes || *bytes != tensor.end - tensor.begin) {
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' of shape {} and dtype {} does not fit its {} bytes", path,
                tensor.name, tensor.shape.text(), tensor.dtype, tensor.end - tensor.begin);
  }
  SafetensorsEntry entry{
      std::move(tensor.name), std::move(tensor.dtype), tensor.shape, nullptr, data + tensor.begin, *bytes};
  entry.codec = find_codec_safetensors(entry.dtype);
  return entry;
}

// Names once; data covered from start to end without overlap or hole. Sorts the entries by offset.
Result<void> check_layout(std::vector<SafetensorsEntry>& entries, uint64_t data, uint64_t data_bytes,
                          const std::string& path) {
  std::unordered_set<std::string_view> names;
  for (const SafetensorsEntry& entry : entries) {
    if (!names.insert(entry.name).second) {
      return fail(ErrorCode::corrupt, "reading {}: tensor '{}' is there twice", path, entry.name);
    }
  }
  names.clear();  // views into strings that sorting moves
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  uint64_t end = data;
  for (const SafetensorsEntry& entry : entries) {
    if (entry.offset != end) {
      return fail(ErrorCode::corrupt, "reading {}: tensor '{}' starts at data offset {}, expected {}: the data {}",
                  path, entry.name, entry.offset - data, end - data, entry.offset < end ? "overlaps" : "has a hole");
    }
    end += entry.bytes;
  }
  if (end != data + data_bytes) {
    return fail(ErrorCode::corrupt, "reading {}: {} bytes after the last tensor belong to none", path,
                data + data_bytes - end);
  }
  return {};
}

}  // namespace

std::optional<uint64_t> safetensors_element_bytes(std::string_view dtype) {
  const auto found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const Dtype& d) { return d.name == dtype; });
  return found == kDtypes.end() ? std::nullopt : std::optional(found->bytes);
}

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  SafetensorsFile opened(TRY(InputFile::open(path)));
  const uint64_t size = opened.file_.size();
  if (size < 8) return fail(ErrorCode::corrupt, "reading {}: {} bytes are too short for safetensors", path, size);
  uint64_t length = 0;
  CHECK_OK(opened.file_.read(0, std::as_writable_bytes(std::span(&length, 1))));
  if (length > kLongestHeader || length > size - 8) {
    return fail(ErrorCode::corrupt,
                "reading {}: the header claims {} bytes; at most {} are possible. Is it safetensors?", path, length,
                std::min(kLongestHeader, size - 8));
  }
  std::string text(length, '\0');
  CHECK_OK(opened.file_.read(8, std::as_writable_bytes(std::span(text))));
  SafetensorsHeader header = TRY(parse_safetensors_header(text, path));
  opened.metadata_ = std::move(header.metadata);
  const uint64_t data = 8 + length;
  for (auto& tensor : header.tensors) {
    opened.entries_.push_back(TRY(check_entry(std::move(tensor), data, size - data, path)));
  }
  CHECK_OK(check_layout(opened.entries_, data, size - data, path));
  return opened;
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::find_if(entries_.begin(), entries_.end(), [&](const auto& e) { return e.name == name; });
  return found == entries_.end() ? nullptr : &*found;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path, std::span<const SafetensorsTensor> tensors,
                                                    std::map<std::string, std::string> metadata) {
  metadata["format"] = "pt";
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  uint64_t end = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    const auto element = safetensors_element_bytes(tensor.dtype);
    const auto bytes = element ? bytes_of(tensor.shape, *element) : std::nullopt;
    if (!bytes || header.contains(tensor.name)) {
      return fail(ErrorCode::invalid_argument, "writing {}: tensor '{}' of dtype '{}' and shape {} {}", path,
                  tensor.name, tensor.dtype, tensor.shape.text(),
                  !element ? "cannot be written: safetensors has no such dtype"
                  : !bytes ? "is too large"
                           : "is there twice");
    }
    auto shape = nlohmann::ordered_json::array();
    for (int axis = 0; axis < tensor.shape.rank(); ++axis) shape.push_back(tensor.shape[axis]);
    header[tensor.name] = {{"dtype", tensor.dtype}, {"shape", shape}, {"data_offsets", {end, end + *bytes}}};
    end += *bytes;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');  // so that the data is aligned for those who map it
  OutputFile file = TRY(OutputFile::create(path));
  const uint64_t length = text.size();
  text.insert(0, reinterpret_cast<const char*>(&length), sizeof length);
  CHECK_OK(file.write(text));
  SafetensorsWriter writer(std::move(file), path, end);
  writer.header_hash_ = XXH3_64bits(text.data(), text.size());
  return writer;
}

Result<void> SafetensorsWriter::write(std::span<const std::byte> bytes) {
  if (bytes.size() > left_) {
    return fail(ErrorCode::invalid_argument, "writing {}: {} bytes more than the header announced", path_,
                bytes.size() - left_);
  }
  left_ -= bytes.size();
  return file_.write(bytes);
}

Result<void> SafetensorsWriter::sync() {
  if (left_ > 0) {
    return fail(ErrorCode::invalid_argument, "writing {}: {} bytes announced in the header never came", path_, left_);
  }
  return file_.sync();
}

Result<void> SafetensorsWriter::finish() {
  CHECK_OK(sync());
  return file_.commit();
}

}  // namespace thimble
