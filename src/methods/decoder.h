// The decoder socket: how tokens are guessed ahead, so that the model reads several at once. One decoder is one file in
// decoders/ and one row of the table in decoder.cpp.
//
// Guesses are read together with the token before them, and kept as long as they are what would have been taken without
// them; so the text is the same to the last token, sampled or not, whatever a decoder guesses (Leviathan et al. 2023,
// "Fast Inference from Transformers via Speculative Decoding", arXiv:2211.17192, whose scheme keeps the distribution;
// here draws depend on the token's number alone, which keeps the draw itself). A row of the program that makes tokens
// has the same bits however many run with it, which its contract test asks of every operation.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "methods/option.h"

namespace thimble {

struct Decoder {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  std::span<const Option> options = {};  // "tokens": how many are guessed at once, at most
  // Guesses what follows `ids` (prompt and reply): appends at most `most` to `guesses`. nullptr: nothing is guessed so.
  void (*guess)(std::span<const int32_t> ids, int64_t most, const OptionValues& options,
                std::vector<int32_t>& guesses) = nullptr;
  // Blocks of the model, of `blocks`, after which its head guesses the likeliest token; nullptr: it does not.
  int64_t (*layers)(int64_t blocks, const OptionValues& options) = nullptr;

  bool guesses() const { return guess || layers; }
};

std::span<const Decoder* const> decoders();
Result<const Decoder*> decoder_named(std::string_view name);

extern const Decoder kPlainDecoder;
extern const Decoder kPromptLookup;
extern const Decoder kLayerSkip;

}  // namespace thimble
