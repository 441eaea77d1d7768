#include "models/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/rope_factors.h"

namespace thimble {
namespace {

constexpr double kTau = 2 * std::numbers::pi;

// YaRN (arXiv:2309.00071, section 3.2): dimensions that turn fewer than beta_slow times over the original context are
// interpolated, those that turn more than beta_fast times kept.
double yarn(double inverse, int64_t i, const Architecture& a) {
  const RopeScaling& s = a.rope_scaling;
  const double dim = static_cast<double>(a.head_dim), context = static_cast<double>(s.original_context);
  const auto dimension_of = [&](double turns) {
    return dim * std::log(context / (turns * kTau)) / (2 * std::log(a.rope_base));
  };
  const double low = std::max(std::floor(dimension_of(s.beta_fast)), 0.0);
  const double high = std::max(std::min(std::ceil(dimension_of(s.beta_slow)), dim - 1), low + 0.001);
  const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
  return inverse / s.factor * ramp + inverse * (1 - ramp);
}

}  // namespace

RopeFrequencies rope_frequencies(const Architecture& a) {
  RopeFrequencies out;
  const RopeScaling& s = a.rope_scaling;
  std::vector<float> divisors;
  if (s.kind == RopeScaling::Kind::llama3) divisors = llama3_rope_factors(s, a.rope_base, a.head_dim);
  for (int64_t i = 0; i < a.head_dim / 2; ++i) {
    // In f32 step by step, as the models were trained: an angle of some hundred radians shows the last bit.
    const double inverse =
        1.0f / std::pow(static_cast<float>(a.rope_base), static_cast<float>(2 * i) / static_cast<float>(a.head_dim));
    double scaled = inverse;
    if (s.kind == RopeScaling::Kind::linear) scaled = inverse / s.factor;
    if (s.kind == RopeScaling::Kind::llama3) scaled = inverse / static_cast<double>(divisors[static_cast<size_t>(i)]);
    if (s.kind == RopeScaling::Kind::yarn) scaled = yarn(inverse, i, a);
    out.inverse.push_back(static_cast<float>(scaled));
  }
  if (s.kind == RopeScaling::Kind::yarn)
    out.scale = s.attention_factor > 0 ? s.attention_factor : s.factor > 1 ? 0.1 * std::log(s.factor) + 1 : 1;
  return out;
}

}  // namespace thimble
