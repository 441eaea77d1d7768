// layer_skip: the model's first blocks and its head guess, the whole model checks.
//
//   Paper   Elhoushi et al. 2024, "LayerSkip: Enabling Early Exit Inference and Self-Speculative Decoding",
//           arXiv:2404.16710, section 4.3
//   Guess   the likeliest token after `layers` blocks, by the model's own last norm and head
//   Memory  the logits of the guess; keys and values of the first blocks are those of the whole model, and are shared
//   Choice  half of the blocks unless `layers` says otherwise. Models that were not trained to exit early guess badly;
//           the text is the same all the same
#include <algorithm>

#include "methods/decoder.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("tokens", 4, 1, 64, "guessed at once, at most"),
    whole_number("layers", 0, 0, 4096, "blocks that guess; 0: half of them"),
};

int64_t layers(int64_t blocks, const OptionValues& options) {
  const auto asked = static_cast<int64_t>(options["layers"]);
  return std::clamp<int64_t>(asked > 0 ? asked : blocks / 2, 1, blocks);
}

}  // namespace

const Decoder kLayerSkip = {.name = "layer_skip",
                            .summary = "guesses by the model's first blocks and its head",
                            .paper = "Elhoushi et al. 2024",
                            .options = kOptions,
                            .layers = layers};

}  // namespace thimble
