// @NAME@: one line that says which tokens stay.
//
//   Paper   Authors and year, arXiv number
//   Keeps   the last tokens
//   Choice  where this differs from the paper
//
// As made from the template: a window of the last tokens.
#include <algorithm>

#include "methods/cache_policy.h"

namespace thimble {
namespace {

void keep(std::span<float> surprise, int64_t most, const OptionValues&, std::vector<int32_t>& kept) {
  const auto count = static_cast<int64_t>(surprise.size());
  for (int64_t place = std::max<int64_t>(0, count - most); place < count; ++place)
    kept.push_back(static_cast<int32_t>(place));
}

}  // namespace

const CachePolicy @SYMBOL@ = {
    .name = "@NAME@", .summary = "one line for help and docs", .paper = "arXiv number", .keep = keep};

}  // namespace thimble
