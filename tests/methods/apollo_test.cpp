// APOLLO and APOLLO-Mini against Algorithm 1 in double, with the random numbers that thimble draws.
#include <cmath>

#include "core/random.h"
#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr uint64_t kSeed = 5;

void follow(const Optimizer& optimizer, int64_t rows, int64_t columns, int64_t rank, bool channels, double scale) {
  constexpr double kRate = 1e-2, kDecay = 0.1;
  OptionValues options(optimizer.options);
  ASSERT_TRUE(options.set("apollo", "rank", std::to_string(rank)));
  ASSERT_TRUE(options.set("apollo", "interval", "3"));
  OptimizerRun run(optimizer, options, {"p", {rows, columns}, true}, kDecay);
  const auto count = static_cast<size_t>(rows * columns);
  run.set_parameter(normals(count, 1, 0.1));
  const bool wide = rows < columns;
  const int64_t side = std::min(rows, columns), other = std::max(rows, columns);
  Dense p(rows, columns, run.parameter()), m(rank, other), v(rank, other);
  double length = 0;
  for (int64_t t = 1; t <= 5; ++t) {
    // The third gradient stands out, so that the limiter works.
    const std::vector<float> gradient = normals(count, 10 + static_cast<uint64_t>(t), t == 3 ? 20 : 1);
    run.step(kRate, t, -1, gradient, kSeed);
    Dense g(rows, columns, gradient), basis(side, rank);
    if (!wide) g = transpose(g);
    const Random random(kSeed, name_hash("apollo.p"), static_cast<uint64_t>((t - 1) / 3));
    for (size_t e = 0; e < basis.at.size(); ++e)
      basis.at[e] = static_cast<double>(random.normal(e)) / std::sqrt(static_cast<double>(rank));
    const Dense low = transpose(basis) * g;
    Dense n(rank, other), u = g;
    for (size_t e = 0; e < n.at.size(); ++e) {
      m.at[e] = 0.9 * m.at[e] + 0.1 * low.at[e], v.at[e] = 0.999 * v.at[e] + 0.001 * low.at[e] * low.at[e];
      n.at[e] = m.at[e] / (std::sqrt(v.at[e]) + 1e-6);
    }
    for (int64_t j = 0; j < other; ++j) {
      double after = 0, before = 0;
      for (int64_t k = 0; k < rank; ++k) after += n(k, j) * n(k, j), before += low(k, j) * low(k, j);
      const double factor = channels ? std::sqrt(after) / (std::sqrt(before) + 1e-8) : n.norm() / (low.norm() + 1e-8);
      for (int64_t i = 0; i < side; ++i) u(i, j) *= factor * std::sqrt(scale);
    }
    const double limiter = t == 1 ? 1 : std::max(u.norm() / (length + 1e-8), 1.01) / 1.01;
    length = u.norm() / limiter;
    if (!wide) u = transpose(u);
    const double size =
        kRate * std::sqrt(1 - std::pow(0.999, static_cast<double>(t))) / (1 - std::pow(0.9, static_cast<double>(t)));
    for (size_t e = 0; e < count; ++e) p.at[e] = (p.at[e] - size / limiter * u.at[e]) * (1 - kRate * kDecay);
  }
  expect_near(run.parameter(), p.at, 2e-5);
}

TEST(Apollo, follows_its_algorithm) {
  follow(kApollo, 12, 30, 4, true, 1);
  follow(kApollo, 30, 12, 4, true, 1);
}

TEST(ApolloMini, follows_its_algorithm) {
  follow(kApolloMini, 12, 30, 1, false, 128);
  follow(kApolloMini, 30, 12, 1, false, 128);
}

TEST(Apollo, keeps_as_many_numbers_as_the_paper_says) {
  OptimizerRun apollo(kApollo, OptionValues(kApollo.options), {"p", {128, 512}, true});
  EXPECT_EQ(apollo.state_bytes(), 4 * (2 * 32 * 512 + 1));  // 2 r n and the limiter's length
  OptimizerRun mini(kApolloMini, OptionValues(kApolloMini.options), {"p", {512, 128}, true});
  EXPECT_EQ(mini.state_bytes(), 4 * (2 * 512 + 1));
}

}  // namespace
}  // namespace thimble
