// Adam-mini against Algorithm 2 in double, for each kind of block.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr double kRate = 1e-2, kDecay = 0.1;

void follow(const Parameter& parameter, size_t blocks, const Codec& states = kF32, double tolerance = 1e-5) {
  SCOPED_TRACE(fmt::format("{} {}", parameter.name, parameter.shape.text()));
  OptimizerRun run(kAdamMini, OptionValues(kAdamMini.options), parameter, kDecay, states);
  const auto count = static_cast<size_t>(parameter.shape.count());
  run.set_parameter(normals(count, 1));
  const std::vector<float> begun = run.parameter();
  std::vector<double> p(begun.begin(), begun.end()), m(count), v(blocks);
  const size_t size = count / blocks;
  for (int64_t t = 1; t <= 5; ++t) {
    const std::vector<float> g = normals(count, 10 + static_cast<uint64_t>(t));
    run.step(kRate, t, 0.5, g);
    for (size_t b = 0; b < blocks; ++b) {
      double mean = 0;
      for (size_t e = b * size; e < (b + 1) * size; ++e) mean += 0.25 * double{g[e]} * double{g[e]};
      v[b] = 0.999 * v[b] + 0.001 * mean / static_cast<double>(size);
    }
    for (size_t e = 0; e < count; ++e) {
      m[e] = 0.9 * m[e] + 0.1 * 0.5 * double{g[e]};
      p[e] = p[e] * (1 - kRate * kDecay) -
             kRate * m[e] / (1 - std::pow(0.9, static_cast<double>(t))) /
                 (std::sqrt(v[e / size] / (1 - std::pow(0.999, static_cast<double>(t)))) + 1e-8);
    }
  }
  expect_near(run.parameter(), p, tolerance);
}

TEST(AdamMini, has_one_second_moment_a_block) {
  follow({"q", {24, 10}, true, 8}, 3);        // heads of queries
  follow({"o", {24, 10}, true}, 24);          // outputs
  follow({"embedding", {31, 8}, false}, 31);  // tokens
  follow({"norm", {48}, true}, 1);
  follow({"o.bias", {48}, true}, 48);
  follow({"q", {96, 100}, true, 32}, 3, kInt8Block, 1e-2);  // the momentum lies flat, rows are still the matrix's
}

TEST(AdamMini, keeps_little_beside_the_momentum) {
  OptimizerRun run(kAdamMini, OptionValues(kAdamMini.options), {"q", {128, 64}, true, 32});
  EXPECT_EQ(run.state_bytes(), 4 * (128 * 64 + 4));
}

}  // namespace
}  // namespace thimble
