// sirllm: the first tokens, those that were least expected, and the last ones.
//
//   Paper   Yao, Li and Zhao 2024, "SirLLM: Streaming Infinite Retentive LLM", arXiv:2405.12528, and its code
//           (github.com/Zoeyyao27/SirLLM, sir_llm/kv_cache.py)
//   Weight  of a token its surprise, -log P(token | those before it), which the paper calls token entropy; every time
//           that tokens are forgotten, the weights of those that stay are multiplied with `decay`
//   Choice  the paper forgets between turns of a dialogue and may keep no last tokens; here a text is cut anywhere, so
//           that a part of the places is for the last ones
#include <algorithm>

#include "methods/cache_policy.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("sinks", 4, 0, 1024, "first tokens that always stay"),
                               {"recent", 0.5, 0, 1, "part of the other places that is for the last tokens"},
                               {"decay", 0.9, 0, 1, "factor of the weights of tokens that stay"}};

int64_t sinks_of(const OptionValues& options) { return static_cast<int64_t>(options["sinks"]); }

void keep(std::span<float> surprise, int64_t most, const OptionValues& options, std::vector<int32_t>& kept) {
  const auto count = static_cast<int64_t>(surprise.size());
  const int64_t sinks = std::min(most, sinks_of(options));
  const auto last = static_cast<int64_t>(options["recent"] * static_cast<double>(most - sinks));
  const int64_t middle_end = std::max(sinks, count - last), middle = std::min(most - sinks - last, middle_end - sinks);
  for (int64_t place = sinks; place < middle_end; ++place) kept.push_back(static_cast<int32_t>(place));
  const auto weightier = [&](int32_t a, int32_t b) {
    const float first = surprise[static_cast<size_t>(a)], second = surprise[static_cast<size_t>(b)];
    return first != second ? first > second : a > b;  // of equal ones the later
  };
  std::nth_element(kept.begin(), kept.begin() + middle, kept.end(), weightier);
  kept.resize(static_cast<size_t>(middle));
  for (int64_t place = 0; place < std::min(sinks, count); ++place) kept.push_back(static_cast<int32_t>(place));
  for (int64_t place = middle_end; place < count; ++place) kept.push_back(static_cast<int32_t>(place));
  std::ranges::sort(kept);
  for (float& weight : surprise) weight *= static_cast<float>(options["decay"]);
}

}  // namespace

const CachePolicy kSirllmCache = {.name = "sirllm",
                                  .summary = "the first tokens, the least expected and the last ones stay",
                                  .paper = "Yao et al. 2024",
                                  .options = kOptions,
                                  .surprises = true,
                                  .pinned = sinks_of,
                                  .keep = keep};

}  // namespace thimble
