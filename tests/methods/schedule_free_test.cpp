// Schedule-free AdamW against the authors' reference code, which keeps x, y and z, in double.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

TEST(ScheduleFree, follows_the_reference) {
  constexpr double kClip = 0.5, kDecay = 0.1;
  constexpr size_t kCount = 13 * 29;
  OptimizerRun run(kScheduleFree, OptionValues(kScheduleFree.options), {"p", {13, 29}, true}, kDecay);
  run.set_parameter(normals(kCount, 1, 0.5));
  const std::vector<float> begun = run.parameter();
  std::vector<double> y(begun.begin(), begun.end()), x = y, z = y, v(kCount, 0.0);
  // Warm-up, then lower than the largest.
  const auto rate_at = [](int64_t t) { return t < 3 ? 0.02 * static_cast<double>(t) : 0.02; };
  double sum = 0, most = 0;
  for (int64_t t = 1; t <= 6; ++t) {
    const double lr = rate_at(t);
    const std::vector<float> gradient = normals(kCount, 10 + static_cast<uint64_t>(t));
    run.step(lr, t, kClip, gradient);
    most = std::max(most, lr);
    sum += most * most;
    const double c = most * most / sum;
    for (size_t e = 0; e < kCount; ++e) {
      const double g = kClip * static_cast<double>(gradient[e]);
      v[e] = 0.999 * v[e] + 0.001 * g * g;
      const double n = g / (std::sqrt(v[e] / (1 - std::pow(0.999, static_cast<double>(t)))) + 1e-8) + kDecay * y[e];
      z[e] -= lr * n;
      x[e] = (1 - c) * x[e] + c * z[e];
      y[e] = 0.9 * x[e] + 0.1 * z[e];
    }
  }
  expect_near(run.parameter(), y, 2e-6);
  // What evaluation takes.
  const std::vector<double> factors = kScheduleFree.evaluated(OptionValues(kScheduleFree.options));
  const std::vector<float> p = run.parameter(), d = run.state("distance");
  for (size_t e = 0; e < kCount; ++e) EXPECT_NEAR(factors[0] * p[e] + factors[1] * d[e], x[e], 2e-6);
}

}  // namespace
}  // namespace thimble
