#include "methods/decoder.h"

#include "core/nearest.h"

namespace thimble {

const Decoder kPlainDecoder = {.name = "plain", .summary = "one token after another", .paper = ""};

std::span<const Decoder* const> decoders() {
  static constexpr const Decoder* kTable[] = {&kPlainDecoder, &kPromptLookup, &kLayerSkip};
  return kTable;
}

Result<const Decoder*> decoder_named(std::string_view name) {
  return find_named("--decoder", "decoder", decoders(), name);
}

}  // namespace thimble
