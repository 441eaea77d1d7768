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

std::vector<Trains> train_in_turn(const SelectorInput& input, const std::vector<bool>& drawn) {
  std::vector<Trains> out;
  for (const Selectable& parameter : input.parameters) {
    const bool of_layer = parameter.first == parameter.last && parameter.first >= 0 && parameter.first < input.layers;
    out.push_back(!of_layer                                     ? Trains::now
                  : drawn[static_cast<size_t>(parameter.first)] ? Trains::drawn
                                                                : Trains::resting);
  }
  return out;
}

}  // namespace thimble
