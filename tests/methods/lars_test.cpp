// LARS against Algorithm 1 in double.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

TEST(Lars, follows_its_algorithm) {
  constexpr double kRate = 2, kClip = 0.25;
  for (double decay : {0.0, 0.1})
    for (double nesterov : {0, 1}) {
      OptionValues options(kLars.options);
      ASSERT_TRUE(options.set("lars", "nesterov", std::to_string(nesterov)));
      OptimizerRun run(kLars, options, {"p", {13, 29}, true}, decay);
      constexpr size_t kCount = 13 * 29;
      run.set_parameter(normals(kCount, 1, 0.5));
      Dense p(13, 29, run.parameter()), m(13, 29);
      for (int64_t t = 1; t <= 5; ++t) {
        const std::vector<float> gradient = normals(kCount, 10 + static_cast<uint64_t>(t));
        run.step(kRate, t, kClip, gradient);
        Dense g(13, 29, gradient);
        for (double& x : g.at) x *= kClip;
        const double ratio = 1e-3 * p.norm() / (g.norm() + decay * p.norm());
        for (size_t e = 0; e < kCount; ++e) {
          const double now = ratio * (g.at[e] + decay * p.at[e]);
          m.at[e] = 0.9 * m.at[e] + now;
          p.at[e] -= kRate * (nesterov > 0 ? now + 0.9 * m.at[e] : m.at[e]);
        }
      }
      expect_near(run.parameter(), p.at, 1e-5);
    }
}

TEST(Lars, moves_vectors_and_zeros_by_momentum) {
  for (const Parameter& parameter : {Parameter{"norm", {4}, true}, Parameter{"zeros", {2, 2}, true}}) {
    OptimizerRun run(kLars, OptionValues(kLars.options), parameter, 0.1);
    run.step(0.5, 1, -1, {1, -1, 2, -3});
    expect_near(run.parameter(), {-0.5, 0.5, -1, 1.5}, 1e-6);
  }
}

}  // namespace
}  // namespace thimble
