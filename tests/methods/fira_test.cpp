// Fira against its algorithm in double, from the bases that were taken: their signs are free.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr double kRate = 1e-2, kDecay = 0.1, kClip = 0.5;

void follow(int64_t rows, int64_t columns, int64_t rank) {
  OptionValues options(kFira.options);
  ASSERT_TRUE(options.set("fira", "rank", std::to_string(rank)) && options.set("fira", "interval", "3"));
  OptimizerRun run(kFira, options, {"p", {rows, columns}, true}, kDecay);
  const auto count = static_cast<size_t>(rows * columns);
  run.set_parameter(normals(count, 1, 0.1));
  const bool wide = rows < columns;
  const auto lying = [&](const Dense& x) { return wide ? x : transpose(x); };
  Dense p(rows, columns, run.parameter());
  const int64_t side = std::min(rows, columns), other = std::max(rows, columns);
  Dense m(rank, other), v(rank, other);
  double length = 0;
  for (int64_t t = 1; t <= 5; ++t) {
    // Growing, so that the limit is met.
    const std::vector<float> gradient = normals(count, 10 + static_cast<uint64_t>(t), static_cast<double>(t));
    run.step(kRate, t, kClip, gradient);
    Dense g = lying(Dense(rows, columns, gradient));
    for (double& x : g.at) x *= kClip;
    const Dense basis(side, rank, run.state("basis"));
    const Dense low = transpose(basis) * g, kept = basis * low;
    Dense n = low;
    for (size_t e = 0; e < n.at.size(); ++e) {
      m.at[e] = 0.9 * m.at[e] + 0.1 * low.at[e], v.at[e] = 0.999 * v.at[e] + 0.001 * low.at[e] * low.at[e];
      n.at[e] = m.at[e] / (std::sqrt(v.at[e]) + 1e-6);
    }
    Dense rest = g;
    for (int64_t j = 0; j < other; ++j) {
      double after = 0, before = 0;
      for (int64_t k = 0; k < rank; ++k) after += n(k, j) * n(k, j), before += low(k, j) * low(k, j);
      for (int64_t i = 0; i < side; ++i)
        rest(i, j) = (g(i, j) - kept(i, j)) * std::sqrt(after) / (std::sqrt(before) + 1e-8);
    }
    const double limit = t == 1 ? 1 : std::max(rest.norm() / (length + 1e-8), 1.01) / 1.01;
    length = rest.norm() / limit;
    Dense step = basis * n;
    for (size_t e = 0; e < step.at.size(); ++e) step.at[e] += rest.at[e] / limit;
    step = lying(step);
    const double size =
        kRate * std::sqrt(1 - std::pow(0.999, static_cast<double>(t))) / (1 - std::pow(0.9, static_cast<double>(t)));
    for (size_t e = 0; e < count; ++e) p.at[e] = (p.at[e] - size * step.at[e]) * (1 - kRate * kDecay);
    expect_near(run.parameter(), p.at, 1e-4);
  }
}

TEST(Fira, follows_its_algorithm) {
  follow(9, 20, 3);
  follow(20, 9, 3);
}

TEST(Fira, keeps_as_many_numbers_as_galore_and_a_length) {
  OptimizerRun run(kFira, OptionValues(kFira.options), {"p", {128, 512}, true});
  EXPECT_EQ(run.state_bytes(), 4 * (32 * (2 * 512 + 128) + 1));
}

}  // namespace
}  // namespace thimble
