#include "models/norm.h"

#include <algorithm>

#include "ops/couple.h"

namespace thimble {

std::span<const NormKind* const> norms() {
  static constexpr const NormKind* kTable[] = {&kRms, &kLayer, &kDyt, &kEln};
  return kTable;
}

const NormKind* find_norm(std::string_view name) {
  const auto all = norms();
  const auto found = std::ranges::find(all, name, &NormKind::name);
  return found == all.end() ? nullptr : *found;
}

Norm new_norm(const NormKind& kind) { return {.kind = &kind, .bias = kind.biased}; }

ValueId NormContext::scalar(std::string_view own) const {
  const std::string full = fmt::format("{}.{}", name, own);
  return in_codec(graph, weight(full), kF32, full + ".f32");
}

}  // namespace thimble
