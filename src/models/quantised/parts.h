// What the readers of quantised matrices share: a part of a given shape, and its numbers.
#pragma once

#include <string_view>
#include <vector>

#include "models/quantised.h"

namespace thimble {

// The part that must be there, of that shape and of one of the dtypes.
Result<PackedPart> packed_part(const PackedSource& source, std::string_view suffix, const Shape& shape,
                               std::initializer_list<std::string_view> dtypes);
// Whether the part has that dtype and shape; an error says what was found.
Result<void> check_part(const PackedSource& source, const PackedPart& part, const Shape& shape,
                        std::initializer_list<std::string_view> dtypes);

// Elements [first, first + count) of a part whose dtype is a codec of ours, as f32.
Result<void> read_numbers(std::span<const InputFile> files, const PackedPart& part, int64_t first, std::span<float> to);
// The same of raw elements of `Element`'s size.
template <class Element>
Result<void> read_raw(std::span<const InputFile> files, const PackedPart& part, int64_t first, std::span<Element> to) {
  return files[part.file].read(part.entry.offset + static_cast<uint64_t>(first) * sizeof(Element),
                               std::as_writable_bytes(to));
}

}  // namespace thimble
