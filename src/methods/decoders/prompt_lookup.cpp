// prompt_lookup: what followed the last few tokens where they stood before is guessed to follow again.
//
//   Source  Saxena 2023, "Prompt Lookup Decoding" (github.com/apoorvumang/prompt-lookup-decoding), in transformers as
//           prompt_lookup_num_tokens; Yang et al. 2023, "Inference with Reference", arXiv:2304.04487
//   Guess   of the last n tokens, n from `ngram` down to 1, the latest place before where the same n stand: what comes
//           after it there
//   Memory  none
#include <algorithm>

#include "methods/decoder.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("tokens", 6, 1, 64, "guessed at once, at most"),
    whole_number("ngram", 3, 1, 16, "tokens that are looked for, at most"),
};

void guess(std::span<const int32_t> ids, int64_t most, const OptionValues& options, std::vector<int32_t>& guesses) {
  for (auto n = static_cast<size_t>(options["ngram"]); n > 0; --n) {
    if (ids.size() <= n) continue;
    const auto last = ids.last(n), before = ids.first(ids.size() - 1);
    const auto found = std::find_end(before.begin(), before.end(), last.begin(), last.end());
    if (found == before.end()) continue;
    const auto after = ids.subspan(static_cast<size_t>(found - before.begin()) + n);
    const auto count = std::min(static_cast<size_t>(most), after.size());
    guesses.insert(guesses.end(), after.begin(), after.begin() + static_cast<std::ptrdiff_t>(count));
    return;
  }
}

}  // namespace

const Decoder kPromptLookup = {.name = "prompt_lookup",
                               .summary = "guesses what followed the last tokens where they stood before",
                               .paper = "Saxena 2023",
                               .options = kOptions,
                               .guess = guess};

}  // namespace thimble
