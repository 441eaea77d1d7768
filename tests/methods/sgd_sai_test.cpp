// SGD-SaI against Algorithm 1 in double. One parameter is the largest of all: its ratio is 1; ratios of several are in
// tests/plan/optimizer_socket_test.cpp.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

TEST(SgdSai, follows_its_algorithm) {
  constexpr double kRate = 1e-2, kDecay = 0.1;
  OptimizerRun run(kSgdSai, OptionValues(kSgdSai.options), {"p", {13, 29}, true}, kDecay);
  constexpr size_t kCount = 13 * 29;
  run.set_parameter(normals(kCount, 1));
  Dense p(13, 29, run.parameter()), m(13, 29);
  for (int64_t t = 1; t <= 4; ++t) {
    const std::vector<float> g = normals(kCount, 10 + static_cast<uint64_t>(t));
    run.step(kRate, t, 0.5, g);
    for (size_t e = 0; e < kCount; ++e) {
      const double x = 0.5 * static_cast<double>(g[e]);
      m.at[e] = t == 1 ? x : 0.9 * m.at[e] + 0.1 * x;
      p.at[e] = p.at[e] * (1 - kRate * kDecay) - kRate * m.at[e];
    }
  }
  expect_near(run.parameter(), p.at, 1e-6);
  EXPECT_EQ(run.state("ratio"), std::vector<float>{1});
}

}  // namespace
}  // namespace thimble
