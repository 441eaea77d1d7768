#include "methods/estimator.h"

#include <cmath>
#include <numbers>

#include "core/nearest.h"
#include "core/random.h"
#include "ops/update.h"

namespace thimble {

const Estimator kBackprop = {.name = "backprop",
                             .summary = "the exact gradient, by reverse-mode differentiation",
                             .paper = "Linnainmaa 1976",
                             .options = {}};

namespace {

// The number below whose magnitude a part of the standard normal distribution is.
double normal_magnitude(double part) {
  double low = 0, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (std::erf(middle / std::numbers::sqrt2) < part ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace

ValueId moving_threshold(Graph& graph, ValueId parameter, double left_out) {
  const Value value = graph.value(parameter);
  if (left_out == 0 || value.type.shape.rank() < 2) return kNone;
  const ValueId squares = graph.emit(kSquaredNorm, {}, {parameter}, "squares." + value.name);
  PointwiseBuilder b;
  b.shape({1});
  b.output(normal_magnitude(1 - left_out) * sqrt(b.scalar() / static_cast<double>(value.type.shape.count())));
  return graph.emit(kPointwise, b.attributes(), {squares}, "threshold." + value.name);
}

uint64_t direction_stream(int k, std::string_view parameter) {
  return name_hash(fmt::format("direction.{}.{}", k, parameter));
}

std::span<const Estimator* const> estimators() {
  static constexpr const Estimator* kTable[] = {&kBackprop, &kMezo,           &kForwardGradient, &kLocal,
                                                &kMan,      &kForwardForward, &kNoprop};
  return kTable;
}

Result<const Estimator*> estimator_named(std::string_view name) {
  return find_named("--estimator", "estimator", estimators(), name);
}

}  // namespace thimble
