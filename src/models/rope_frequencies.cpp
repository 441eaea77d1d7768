#include "models/rope_frequencies.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/rope_factors.h"

namespace thimble {
namespace {

using Kind = RopeScaling::Kind;

constexpr double kTau = 2 * std::numbers::pi;

// YaRN (arXiv:2309.00071, section 3.2): dimensions that turn fewer than beta_slow times over the original context are
// interpolated, those that turn more than beta_fast times kept.
double yarn(double inverse, int64_t i, const Rope& rope) {
  const RopeScaling& s = rope.scaling;
  const double dim = static_cast<double>(rope.rotated), context = static_cast<double>(s.original_context);
  const auto dimension_of = [&](double turns) {
    return dim * std::log(context / (turns * kTau)) / (2 * std::log(rope.base));
  };
  const auto whole = [&](double x, double (*round)(double)) { return s.truncate ? round(x) : x; };
  const double low = std::max(whole(dimension_of(s.beta_fast), std::floor), 0.0);
  const double high =
      std::max(std::min(whole(dimension_of(s.beta_slow), std::ceil), dim - 1), low + (s.truncate ? 0.001 : 1e-9));
  const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
  return inverse / s.factor * ramp + inverse * (1 - ramp);
}

// "NTK-aware" scaling that grows with the sequence: bloc97 and emozilla 2023, as in transformers.
double base_of(const Rope& rope, int64_t length) {
  const RopeScaling& s = rope.scaling;
  if (s.kind != Kind::dynamic || length <= s.original_context) return rope.base;
  const double dim = static_cast<double>(rope.rotated);
  const double ratio = static_cast<double>(length) / static_cast<double>(s.original_context);
  return rope.base * std::pow(s.factor * ratio - (s.factor - 1), dim / (dim - 2));
}

}  // namespace

double rope_scale(const RopeScaling& s) {
  if (s.kind != Kind::yarn && s.kind != Kind::longrope) return 1;
  if (s.attention_factor > 0) return s.attention_factor;
  if (s.factor <= 1) return 1;
  if (s.kind == Kind::yarn) return 0.1 * std::log(s.factor) + 1;
  return std::sqrt(1 + std::log(s.factor) / std::log(static_cast<double>(s.original_context)));
}

RopeFrequencies rope_frequencies(const Rope& rope, int64_t length) {
  RopeFrequencies out;
  const RopeScaling& s = rope.scaling;
  std::vector<float> divisors;
  if (s.kind == Kind::llama3) divisors = llama3_rope_factors(s, rope.base, rope.rotated);
  if (s.kind == Kind::longrope) {
    const std::vector<double>& factors = length > s.original_context ? s.long_factors : s.short_factors;
    divisors.assign(factors.begin(), factors.end());
  }
  const auto base = static_cast<float>(base_of(rope, length));
  for (int64_t i = 0; i < rope.rotated / 2; ++i) {
    // In f32 step by step, as the models were trained: an angle of some hundred radians shows the last bit.
    const float power = std::pow(base, static_cast<float>(2 * i) / static_cast<float>(rope.rotated));
    const double inverse = s.kind == Kind::longrope ? 1.0f / (divisors[static_cast<size_t>(i)] * power) : 1.0f / power;
    double scaled = inverse;
    if (s.kind == Kind::linear) scaled = inverse / s.factor;
    if (s.kind == Kind::llama3) scaled = inverse / static_cast<double>(divisors[static_cast<size_t>(i)]);
    if (s.kind == Kind::yarn) scaled = yarn(inverse, i, rope);
    out.inverse.push_back(static_cast<float>(scaled));
  }
  out.scale = rope_scale(s);
  return out;
}

Initial rope_table(const Rope& rope, int64_t positions, bool of_queries) {
  const RopeFrequencies frequencies = rope_frequencies(rope, positions);
  const double growth = of_queries ? rope.query_growth : 0;
  const auto original = static_cast<double>(rope.scaling.original_context);
  const auto fill = [frequencies, growth, original, width = rope.rotated](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e) {
      const int64_t p = e / width, i = e % width / 2;
      // The angle is rounded to f32 as the field's implementations do, then taken in double.
      const double angle = static_cast<float>(static_cast<float>(p) * frequencies.inverse[static_cast<size_t>(i)]);
      double by = frequencies.scale;
      if (growth > 0) by *= 1 + growth * std::log(1 + std::floor(static_cast<double>(p) / original));
      to[e - first] = static_cast<float>((e % 2 ? std::sin(angle) : std::cos(angle)) * by);
    }
  };
  std::string content = fmt::format("rotations {} scale {}", fmt::join(frequencies.inverse, " "), frequencies.scale);
  if (growth > 0) content += fmt::format(" growth {} from {}", growth, original);
  return Initial::table(fill, std::move(content));
}

}  // namespace thimble
