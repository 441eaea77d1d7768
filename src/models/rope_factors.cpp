#include "models/rope_factors.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace thimble {

std::vector<float> llama3_rope_factors(const RopeScaling& scaling, double rope_base, int64_t head_dim) {
  std::vector<float> factors(static_cast<size_t>(head_dim / 2));
  const double original = static_cast<double>(scaling.original_context);
  const double low = scaling.low_frequency_factor, high = scaling.high_frequency_factor;
  for (size_t i = 0; i < factors.size(); ++i) {
    const double frequency = std::pow(rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double wavelength = 2 * std::numbers::pi / frequency;
    const double smooth = std::clamp((original / wavelength - low) / (high - low), 0.0, 1.0);
    factors[i] = static_cast<float>(1 / ((1 - smooth) / scaling.factor + smooth));
  }
  return factors;
}

std::optional<RopeScaling> recognise_rope_factors(std::span<const float> factors, double rope_base) {
  RopeScaling scaling;
  if (std::all_of(factors.begin(), factors.end(), [](float f) { return f == 1; })) return scaling;
  scaling.kind = RopeScaling::Kind::llama3;
  scaling.factor = *std::max_element(factors.begin(), factors.end());
  if (!(scaling.factor > 1) || !std::isfinite(scaling.factor)) return std::nullopt;
  // Every published model has low 1 and high 4; the original context is a power of two.
  for (int64_t original = 512; original <= (int64_t{1} << 20); original *= 2) {
    scaling.original_context = original;
    const auto expected = llama3_rope_factors(scaling, rope_base, static_cast<int64_t>(factors.size()) * 2);
    const bool same = std::equal(factors.begin(), factors.end(), expected.begin(),
                                 [](float a, float b) { return std::abs(a - b) <= 1e-3f * b; });
    if (same) return scaling;
  }
  return std::nullopt;
}

}  // namespace thimble
