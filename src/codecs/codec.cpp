#include "codecs/codec.h"

#include <algorithm>
#include <array>

#include "codecs/pattern.h"
#include "core/nearest.h"

namespace thimble {
namespace {

constexpr std::array kCodecs = {&kF32,       &kBf16,      &kF16, &kQ8_0,     &kQ4_0,     &kQ4_1,
                                &kQ5_0,      &kQ5_1,      &kQ4K, &kQ5K,      &kQ6K,      &kNf4,
                                &kNf4Double, &kInt8Block, &kFp8, &kFp8Group, &kBf16In24, &kF16In24};
constexpr std::array kReadOnly = {&kQ2K,  &kQ3K,   &kIq4Nl,  &kIq4Xs, &kIq3S, &kIq3Xxs,
                                  &kIq2S, &kIq2Xs, &kIq2Xxs, &kMxfp4, &kTq10, &kTq20};

template <class Predicate>
const Codec* first(Predicate predicate) {
  for (const std::span<const Codec* const> table :
       {std::span<const Codec* const>(kCodecs), std::span<const Codec* const>(kReadOnly)})
    for (const Codec* const codec : table)
      if (predicate(*codec)) return codec;
  return nullptr;
}

}  // namespace

std::span<const Codec* const> codecs() { return kCodecs; }
std::span<const Codec* const> read_only_codecs() { return kReadOnly; }

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
  const Codec* const found = find_codec(name);
  if (found && found->writes()) return found;
  if (found)
    return fail(ErrorCode::unsupported,
                "codec {}: thimble reads this format and does not write it; choose another, q4_K say", name);
  std::vector<std::string_view> names;
  names.reserve(kCodecs.size());
  for (const Codec* codec : kCodecs) names.push_back(codec->name);
  return fail(ErrorCode::invalid_argument, "there is no codec '{}'; the nearest are {}", name,
              nearest_names(name, names));
}

}  // namespace thimble
