#include "codecs/codec.h"

#include <algorithm>
#include <array>

#include "core/nearest.h"

namespace thimble {
namespace {

constexpr std::array kCodecs = {&kF32,  &kBf16, &kF16, &kQ8_0, &kQ4_0, &kQ4_1,      &kQ5_0,
                                &kQ5_1, &kQ4K,  &kQ5K, &kQ6K,  &kNf4,  &kInt8Block, &kFp8};

template <class Predicate>
const Codec* first(Predicate predicate) {
  const auto found = std::find_if(kCodecs.begin(), kCodecs.end(), [&](const Codec* c) { return predicate(*c); });
  return found == kCodecs.end() ? nullptr : *found;
}

}  // namespace

std::span<const Codec* const> codecs() { return kCodecs; }

const Codec* find_codec(std::string_view name) {
  return first([&](const Codec& c) { return c.name == name; });
}

const Codec* find_codec_gguf(int gguf_type) {
  return first([&](const Codec& c) { return c.gguf_type >= 0 && c.gguf_type == gguf_type; });
}

const Codec* find_codec_safetensors(std::string_view dtype) {
  return first([&](const Codec& c) { return !c.safetensors.empty() && c.safetensors == dtype; });
}

Result<const Codec*> codec_named(std::string_view name) {
  if (const Codec* codec = find_codec(name)) return codec;
  std::vector<std::string_view> names;
  names.reserve(kCodecs.size());
  for (const Codec* codec : kCodecs) names.push_back(codec->name);
  return fail(ErrorCode::invalid_argument, "there is no codec '{}'; the nearest are {}", name,
              nearest_names(name, names));
}

}  // namespace thimble
