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

namespace {

bool gives(const RopeScaling& scaling, std::span<const float> factors, double rope_base) {
  const auto expected = llama3_rope_factors(scaling, rope_base, static_cast<int64_t>(factors.size()) * 2);
  return std::equal(factors.begin(), factors.end(), expected.begin(),
                    [](float a, float b) { return std::abs(a - b) <= 1e-3f * b; });
}

// How far a divisor is from `factor` (0) towards 1 (1).
double smooth_of(double divisor, double factor) { return (1 / divisor - 1 / factor) / (1 - 1 / factor); }

// Where a frequency lies in the range is a line over 1 / wavelength, clamped to 0..1:
//   smooth = slope / wavelength + offset,  slope = original / (high - low),  offset = -low / (high - low)
// Any three numbers of that line are the same scaling; the original context is whole.
RopeScaling of_line(double factor, double slope, double offset) {
  RopeScaling scaling{.kind = RopeScaling::Kind::llama3, .factor = factor};
  const double original = offset < 0 ? -slope / offset : 4 * slope;  // with low 1, or 0
  if (!(original >= 0.5) || original > 1e9) return scaling;
  scaling.original_context = std::max<int64_t>(1, std::llround(original));
  const double range = static_cast<double>(scaling.original_context) / slope;
  scaling.low_frequency_factor = -offset * range;
  scaling.high_frequency_factor = scaling.low_frequency_factor + range;
  for (double* const number : {&scaling.low_frequency_factor, &scaling.high_frequency_factor})
    if (std::abs(*number - std::round(*number)) < 1e-4) *number = std::round(*number);
  return scaling;
}

}  // namespace

std::optional<RopeScaling> recognise_rope_factors(std::span<const float> factors, double rope_base) {
  RopeScaling scaling;
  if (std::all_of(factors.begin(), factors.end(), [](float f) { return f == 1; })) return scaling;
  const double factor = static_cast<double>(*std::max_element(factors.begin(), factors.end()));
  if (!(factor > 1) || !std::isfinite(factor)) return std::nullopt;
  const auto fits = [&](const RopeScaling& candidate) {
    scaling = candidate;
    return scaling.original_context > 0 && gives(scaling, factors, rope_base);
  };
  const auto usual = [&](double original) {  // low 1, high 4, as every published model
    return fits({.kind = RopeScaling::Kind::llama3, .factor = factor, .original_context = std::llround(original)});
  };
  for (double original = 16; original <= double{1 << 22}; original *= 2)
    if (usual(original)) return scaling;
  // Any other shows in the divisors between the ends of the range, or in where the range must lie.
  std::vector<std::pair<double, double>> within;  // 1 / wavelength, smooth
  double least = 1, most = 1e9;
  double whole = 1,
         none = 0;  // 1 / wavelength of the slowest that is left as it is, and of the fastest divided in full
  for (size_t i = 0; i < factors.size(); ++i) {
    const double turn = static_cast<double>(i) / static_cast<double>(factors.size());
    const double wavelength = 2 * std::numbers::pi * std::pow(rope_base, turn);
    const double f = static_cast<double>(factors[i]);
    if (f <= 1) least = std::max(least, 4 * wavelength), whole = std::min(whole, 1 / wavelength);
    if (f >= factor) most = std::min(most, wavelength), none = std::max(none, 1 / wavelength);
    if (f > 1 && f < factor) within.emplace_back(1 / wavelength, smooth_of(f, factor));
  }
  if (within.empty() && (usual(std::ceil(least)) || usual(std::floor(most)))) return scaling;
  if (within.empty()) {  // the range lies between two neighbours, anywhere
    const double slope = 1 / (whole - none);
    return fits(of_line(factor, slope, -slope * none)) ? std::optional(scaling) : std::nullopt;
  }
  const auto& [first, top] = within.front();
  const double original = (top * 3 + 1) / first;
  if (usual(std::round(original)) || fits(of_line(factor, original / 3, -1.0 / 3))) return scaling;
  const auto& [last, bottom] = within.back();
  if (within.size() == 1) {  // any line through it that leaves its neighbours at the ends
    double slope = 0;
    if (whole > first) slope = std::max(slope, (1 - top) / (whole - first));
    if (none > 0 && none < first) slope = std::max(slope, top / (first - none));
    slope *= 1 + 1e-9;
    return slope > 0 && fits(of_line(factor, slope, top - slope * first)) ? std::optional(scaling) : std::nullopt;
  }
  const double slope = (top - bottom) / (first - last);
  if (fits(of_line(factor, slope, top - slope * first))) return scaling;
  return std::nullopt;
}

}  // namespace thimble
