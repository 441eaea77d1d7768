#include "methods/cache_policy.h"

#include <algorithm>

#include "core/nearest.h"

namespace thimble {

const CachePolicy kFullCache = {
    .name = "full", .summary = "all tokens stay; a full context ends the text", .paper = ""};

std::span<const CachePolicy* const> cache_policies() {
  static constexpr const CachePolicy* kTable[] = {&kFullCache, &kSinkCache, &kSirllmCache};
  return kTable;
}

Result<const CachePolicy*> cache_policy_named(std::string_view name) {
  return find_named("--cache", "cache policy", cache_policies(), name);
}

int64_t places_kept(int64_t context) { return std::max<int64_t>(1, context - std::max<int64_t>(1, context / 4)); }

Result<void> check_cache(const CachePolicy& policy, const OptionValues& options, int64_t context) {
  const int64_t pinned = policy.pinned ? policy.pinned(options) : 0, kept = places_kept(context);
  if (pinned <= kept) return {};
  return fail(ErrorCode::invalid_argument,
              "--cache {}: {} first tokens are always to stay, and of a context of {} only {} stay when it is full; "
              "give fewer sinks or a larger --context",
              policy.name, pinned, context, kept);
}

}  // namespace thimble
