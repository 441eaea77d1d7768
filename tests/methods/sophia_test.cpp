// Sophia-G against Algorithm 3 in double, with the curvature as the authors' code takes it in.
#include <algorithm>
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

TEST(Sophia, follows_its_algorithm) {
  constexpr double kRate = 1e-2, kDecay = 0.1, kRho = 0.04, kB1 = 0.965, kB2 = 0.99;
  constexpr int64_t kTokens = 480;
  constexpr size_t kCount = 13 * 29;
  OptionValues options(kSophia.options);
  ASSERT_TRUE(options.set("test", "interval", 3.0));
  OptimizerRun run(kSophia, options, {"p", {13, 29}, true}, kDecay);
  run.set_parameter(normals(kCount, 1));
  Dense p(13, 29, run.parameter()), m(13, 29), h(13, 29);
  size_t clipped = 0;
  for (int64_t t = 1; t <= 8; ++t) {
    const std::vector<float> g = normals(kCount, 10 + static_cast<uint64_t>(t), 0.1);
    run.step(kRate, t, 0.5, g);
    for (size_t e = 0; e < kCount; ++e) {
      m.at[e] = kB1 * m.at[e] + (1 - kB1) * 0.5 * static_cast<double>(g[e]);
      const double ratio = std::abs(m.at[e]) / (kRho * h.at[e] + 1e-15);
      clipped += ratio > 1;
      p.at[e] = p.at[e] * (1 - kRate * kDecay) - kRate * std::copysign(std::min(ratio, 1.0), m.at[e]);
    }
    if ((t - 1) % 3 != 0) continue;
    const std::vector<float> drawn = normals(kCount, 90 + static_cast<uint64_t>(t), 0.1);
    run.measure_curvature(t, drawn, kTokens);
    for (size_t e = 0; e < kCount; ++e) {
      const double x = static_cast<double>(drawn[e]);
      h.at[e] = kB2 * h.at[e] + (1 - kB2) * kTokens * x * x;
    }
  }
  expect_near(run.state("h"), h.at, 1e-5);
  expect_near(run.parameter(), p.at, 1e-5);
  EXPECT_GT(clipped, kCount) << "the first step is all clipped";
  EXPECT_LT(clipped, 7 * kCount) << "and not every number is later";
}

}  // namespace
}  // namespace thimble
