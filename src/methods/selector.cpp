#include "methods/selector.h"

#include "core/nearest.h"

namespace thimble {

const Selector kAllSelector = {.name = "all", .summary = "every parameter of the method trains", .paper = ""};

std::span<const Selector* const> selectors() {
  static constexpr const Selector* kTable[] = {&kAllSelector, &kLastLayers, &kPatterns, &kSparse,
                                               &kSurgical,    &kLisa,       &kIst};
  return kTable;
}

Result<const Selector*> selector_named(std::string_view name) {
  return find_named("--select", "selector", selectors(), name);
}

Result<int64_t> layers_within(const SelectorInput& input, std::string_view selector) {
  const auto wanted = static_cast<int64_t>(input.options["layers"]);
  if (wanted <= input.layers) return wanted;
  return fail(ErrorCode::invalid_argument, "--set {}.layers={}: the model has {} layers; give at most that many",
              selector, wanted, input.layers);
}

}  // namespace thimble
