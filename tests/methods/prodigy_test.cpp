// Prodigy against the reference of prodigyopt in double.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr size_t kCount = 211;

void follow(double decay, bool corrected, bool safeguard) {
  SCOPED_TRACE(fmt::format("decay {} corrected {} safeguard {}", decay, corrected, safeguard));
  OptionValues options(kProdigy.options);
  ASSERT_TRUE(options.set("prodigy", "correct_bias", corrected ? "1" : "0") &&
              options.set("prodigy", "safeguard_warmup", safeguard ? "1" : "0"));
  OptimizerRun run(kProdigy, options, {"p", {static_cast<int64_t>(kCount)}, true}, decay);
  run.set_parameter(normals(kCount, 1, 1e-4));  // small, so that f32 holds the first steps well
  const std::vector<float> begun = run.parameter();
  std::vector<double> p(begun.begin(), begun.end()), p0 = p, m(kCount), v(kCount), s(kCount);
  const double b1 = 0.9, b2 = 0.999, b3 = std::sqrt(b2), d0 = 1e-6, lr = 1;
  double d = d0, most = d0, numerator = 0;
  const std::vector<float> common = normals(kCount, 10);
  for (int64_t t = 1; t <= 30; ++t) {
    std::vector<float> g = normals(kCount, 10 + static_cast<uint64_t>(t), 0.3);
    for (size_t e = 0; e < kCount; ++e) g[e] += common[e];
    run.step(lr, t, -1, g);
    const double bias = corrected ? std::sqrt(1 - std::pow(b2, t)) / (1 - std::pow(b1, t)) : 1, step = d * lr * bias;
    double along = 0, size = 0;
    for (size_t e = 0; e < kCount; ++e) {
      const double x = g[e];
      along += d / d0 * step * x * (p0[e] - p[e]);
      m[e] = b1 * m[e] + (1 - b1) * d * x;
      v[e] = b2 * v[e] + (1 - b2) * d * d * x * x;
      s[e] = b3 * s[e] + d / d0 * (safeguard ? d : step) * x;
      size += std::abs(s[e]);
    }
    numerator = b3 * numerator + along;
    const double found = numerator / size;
    if (d == d0) d = std::max(d, found);
    most = std::max(most, found);
    d = most;
    for (size_t e = 0; e < kCount; ++e) p[e] += -decay * step * p[e] - step * m[e] / (std::sqrt(v[e]) + d * 1e-8);
    EXPECT_NEAR(run.state("d")[0], d, 2e-4 * d) << "step " << t;
  }
  EXPECT_GT(d, (safeguard ? 2 : 100) * d0) << "the test should see d grow";
  expect_near(run.parameter(), p, 2e-4);
}

TEST(Prodigy, follows_its_reference) {
  follow(0, false, false);
  follow(0.1, false, false);
  follow(0.1, true, true);
}

TEST(Prodigy, stays_where_there_is_no_gradient) {
  OptimizerRun run(kProdigy, OptionValues(kProdigy.options), {"p", {3}, true}, 0.1);
  run.set_parameter({1, 2, 3});
  for (int64_t t = 1; t <= 2; ++t) run.step(1, t, -1, {0, 0, 0});
  EXPECT_EQ(run.parameter(), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ(run.state("d")[0], 1e-6f);
}

}  // namespace
}  // namespace thimble
