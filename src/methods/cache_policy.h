// The cache socket: which tokens' keys and values stay when a sequence's places are all taken. A policy is one file in
// caches/ and one row of the table in cache_policy.cpp.
//
// A token's place in the cache is its position: those that stay move to the first places and their keys are rotated to
// the new ones, so that a sequence of any length is read with positions below the context (Xiao et al. 2023,
// arXiv:2309.17453, section 3.2). What goes on from there takes the places that were freed.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "methods/option.h"

namespace thimble {

struct CachePolicy {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  std::span<const Option> options = {};
  bool surprises = false;  // it looks at how unlikely tokens were
  // First tokens that stay whatever comes behind them. nullptr: none.
  int64_t (*pinned)(const OptionValues& options) = nullptr;
  // Chooses at most `most` of the places [0, surprise.size()) of a sequence, and puts them into `kept` (empty, with
  // room), in order. surprise: -log P(token | those before it), in nats, of each place; it may be changed, and those of
  // places that stay are there again the next time. nullptr: nothing is forgotten, and a full cache ends the text.
  void (*keep)(std::span<float> surprise, int64_t most, const OptionValues& options,
               std::vector<int32_t>& kept) = nullptr;
};

std::span<const CachePolicy* const> cache_policies();
Result<const CachePolicy*> cache_policy_named(std::string_view name);

// Places that stay taken when all of `context` were: a quarter is freed at a time, so that it does not happen at every
// token.
int64_t places_kept(int64_t context);
// Errors where more tokens always stay than that.
Result<void> check_cache(const CachePolicy& policy, const OptionValues& options, int64_t context);

extern const CachePolicy kFullCache, kSinkCache, kSirllmCache;

}  // namespace thimble
