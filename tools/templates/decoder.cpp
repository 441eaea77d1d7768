// @NAME@: one line that says what is guessed.
//
//   Paper   Authors and year, arXiv number
//   Guess   the last token, again and again
//   Memory  none
//
// As made from the template: it repeats the last token.
#include "methods/decoder.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("tokens", 4, 1, 64, "guessed at once, at most")};

void guess(std::span<const int32_t> ids, int64_t most, const OptionValues&, std::vector<int32_t>& guesses) {
  guesses.insert(guesses.end(), static_cast<size_t>(most), ids.back());
}

}  // namespace

const Decoder @SYMBOL@ = {
    .name = "@NAME@", .summary = "one line for help and docs", .paper = "arXiv number", .options = kOptions, .guess = guess};

}  // namespace thimble
