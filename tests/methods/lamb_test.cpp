// LAMB against Algorithm 2 in double.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

TEST(Lamb, follows_its_equations) {
  constexpr double kRate = 1e-2;
  for (double decay : {0.0, 0.1}) {
    OptimizerRun run(kLamb, OptionValues(kLamb.options), {"p", {13, 29}, true}, decay);
    constexpr size_t kCount = 13 * 29;
    run.set_parameter(normals(kCount, 1, 0.5));
    Dense p(13, 29, run.parameter()), m(13, 29), v(13, 29);
    for (int64_t t = 1; t <= 5; ++t) {
      const std::vector<float> g = normals(kCount, 10 + static_cast<uint64_t>(t));
      run.step(kRate, t, 0.25, g);
      Dense u(13, 29);
      for (size_t e = 0; e < kCount; ++e) {
        const double x = 0.25 * static_cast<double>(g[e]);
        m.at[e] = 0.9 * m.at[e] + 0.1 * x, v.at[e] = 0.999 * v.at[e] + 0.001 * x * x;
        u.at[e] = m.at[e] / (1 - std::pow(0.9, static_cast<double>(t))) /
                      (std::sqrt(v.at[e] / (1 - std::pow(0.999, static_cast<double>(t)))) + 1e-6) +
                  decay * p.at[e];
      }
      const double trust = p.norm() / u.norm();
      for (size_t e = 0; e < kCount; ++e) p.at[e] -= kRate * trust * u.at[e];
    }
    expect_near(run.parameter(), p.at, 1e-5);
  }
}

TEST(Lamb, moves_a_parameter_of_zeros) {
  OptimizerRun run(kLamb, OptionValues(kLamb.options), {"p", {4}, true});
  run.step(0.5, 1, -1, {1, -1, 2, -3});
  expect_near(run.parameter(), {-0.5, 0.5, -0.5, 0.5}, 1e-5);
}

}  // namespace
}  // namespace thimble
