#include "methods/cache_policy.h"

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

}  // namespace thimble
