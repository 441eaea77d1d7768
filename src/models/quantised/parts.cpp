#include "models/quantised/parts.h"

#include <algorithm>

namespace thimble {

Result<void> check_part(const PackedSource& source, const PackedPart& part, const Shape& shape,
                        std::initializer_list<std::string_view> dtypes) {
  if (std::ranges::find(dtypes, part.entry.dtype) == dtypes.end()) {
    return fail(ErrorCode::unsupported, "reading {}: tensor '{}' is of dtype {}, expected {}", source.name,
                part.entry.name, part.entry.dtype, fmt::join(dtypes, " or "));
  }
  if (!(part.entry.shape == shape)) {
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' should have shape {} by config.json, found {}",
                source.name, part.entry.name, shape.text(), part.entry.shape.text());
  }
  return {};
}

Result<PackedPart> packed_part(const PackedSource& source, std::string_view suffix, const Shape& shape,
                               std::initializer_list<std::string_view> dtypes) {
  const PackedPart* part = source.find(suffix);
  if (!part) return fail(ErrorCode::corrupt, "reading {}: tensor '{}' of it is missing", source.name, suffix);
  CHECK_OK(check_part(source, *part, shape, dtypes));
  return *part;
}

Result<void> read_numbers(std::span<const InputFile> files, const PackedPart& part, int64_t first,
                          std::span<float> to) {
  const Codec& codec = *part.entry.codec;
  std::vector<std::byte> bytes(to.size() * static_cast<size_t>(codec.block_bytes));
  CHECK_OK(files[part.file].read(part.entry.offset + static_cast<uint64_t>(first * codec.block_bytes), bytes));
  codec.decode(bytes.data(), to.data(), static_cast<int64_t>(to.size()));
  return {};
}

}  // namespace thimble
