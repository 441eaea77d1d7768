// SPAM against its equations in double, over several resets.
#include <cmath>
#include <numbers>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

TEST(Spam, follows_its_equations) {
  OptionValues options(kSpam.options);
  for (const auto& [name, value] : {std::pair{"interval", "4"}, {"warmup", "3"}, {"quiet", "2"}, {"threshold", "2"}})
    ASSERT_TRUE(options.set("spam", name, value));
  constexpr double kRate = 1e-2, kDecay = 0.1;
  constexpr size_t kCount = 1237;
  OptimizerRun run(kSpam, options, {"p", {kCount}, true}, kDecay);
  run.set_parameter(normals(kCount, 1));
  std::vector<double> p(kCount), m(kCount, 0), v(kCount, 0);
  const std::vector<float> begun = run.parameter();
  p.assign(begun.begin(), begun.end());
  int clipped = 0;
  for (int64_t t = 1; t <= 11; ++t) {
    const std::vector<float> gradient = normals(kCount, 10 + static_cast<uint64_t>(t));
    run.step(kRate, t, -1, gradient);
    const int64_t since = (t - 1) % 4;
    const double cosine = std::cos(std::numbers::pi * static_cast<double>(std::min<int64_t>(since, 3)) / 3);
    const double scale = t > 4 ? 1 - 0.99 * (1 + cosine) / 2 : 1;
    for (size_t e = 0; e < kCount; ++e) {
      if (since == 0) m[e] = v[e] = 0;
      double g = static_cast<double>(gradient[e]);
      if (since >= 2 && g * g > 2 * v[e]) g = (g > 0 ? 1 : -1) * std::sqrt(2 * v[e]), ++clipped;
      m[e] = 0.9 * m[e] + 0.1 * g, v[e] = 0.999 * v[e] + 0.001 * g * g;
      const double b1 = 1 - std::pow(0.9, static_cast<double>(t)), b2 = 1 - std::pow(0.999, static_cast<double>(t));
      p[e] = p[e] * (1 - kRate * kDecay) - kRate * scale / b1 * m[e] / (std::sqrt(v[e]) / std::sqrt(b2) + 1e-6);
    }
  }
  EXPECT_GT(clipped, 100);
  expect_near(run.parameter(), p, 2e-5);
}

}  // namespace
}  // namespace thimble
