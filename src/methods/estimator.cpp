#include "methods/estimator.h"

#include "core/nearest.h"
#include "core/random.h"

namespace thimble {

const Estimator kBackprop = {.name = "backprop",
                             .summary = "the exact gradient, by reverse-mode differentiation",
                             .paper = "Linnainmaa 1976",
                             .options = {}};

uint64_t direction_stream(int k, std::string_view parameter) {
  return name_hash(fmt::format("direction.{}.{}", k, parameter));
}

std::span<const Estimator* const> estimators() {
  static constexpr const Estimator* kTable[] = {&kBackprop, &kMezo};
  return kTable;
}

Result<const Estimator*> estimator_named(std::string_view name) {
  return find_named("--estimator", "estimator", estimators(), name);
}

}  // namespace thimble
