// One element of an encoded value, read in the most obvious way: what every fast decoder must agree with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "codecs/codec.h"

namespace thimble {

// False for codecs without a reference here.
bool has_reference(std::string_view codec);
float reference_element(const Codec& codec, const std::byte* bytes, int64_t index);

}  // namespace thimble
