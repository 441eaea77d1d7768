// sink: the first tokens, to which attention falls that goes nowhere else, and the last ones.
//
//   Paper   Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks", arXiv:2309.17453
//   Choice  without sinks (sinks=0) it is a window of the last tokens
#include "methods/cache_policy.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("sinks", 4, 0, 1024, "first tokens that always stay")};

int64_t sinks_of(const OptionValues& options) { return static_cast<int64_t>(options["sinks"]); }

void keep(std::span<float> surprise, int64_t most, const OptionValues& options, std::vector<int32_t>& kept) {
  const auto count = static_cast<int64_t>(surprise.size());
  const int64_t sinks = std::min(most, sinks_of(options));
  for (int64_t place = 0; place < count; ++place)
    if (place < sinks || place >= count - (most - sinks)) kept.push_back(static_cast<int32_t>(place));
}

}  // namespace

const CachePolicy kSinkCache = {.name = "sink",
                                .summary = "the first tokens and the last ones stay",
                                .paper = "Xiao et al. 2023",
                                .options = kOptions,
                                .pinned = sinks_of,
                                .keep = keep};

}  // namespace thimble
